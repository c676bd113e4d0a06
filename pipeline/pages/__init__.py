"""Pages of HTML: a template and its data become one file, with a style and a script that all pages begin with."""
