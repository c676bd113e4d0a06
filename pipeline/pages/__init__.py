"""What the HTML pages have in common: how a template becomes one file, and the style that all start from."""
