from hypothesis import settings

settings.register_profile("quick", max_examples=25, deadline=None)
settings.load_profile("quick")

pytest_plugins = ["tests.database_fixtures", "tests.lambda_fixtures"]
