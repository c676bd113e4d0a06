"""The words of sentences with numbers: one app, two apps."""


def agree(number: float, singular: str, plural: str = "") -> str:
    """Return the form of a word that agrees with a number; the plural is the singular with an s unless given."""
    return singular if number == 1 else plural or f"{singular}s"


def count_of(number: float, singular: str, plural: str = "") -> str:
    """Return a number with the words that it counts, such as "1 game" or "2,000 games"."""
    return f"{number:,} {agree(number, singular, plural)}"
