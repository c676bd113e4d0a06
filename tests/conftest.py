pytest_plugins = ["tests.database_fixtures", "tests.lambda_fixtures"]
