"""The look of all charts and tables of the notebooks, which an import of this module sets."""

import altair as alt
import polars as pl

# Okabe and Ito's palette, whose colours stay apart for people who see fewer of them.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
GREY = "#B4B4B4"
WIDTH, ROW_HEIGHT = 520, 22

# A picture can be read in a committed notebook without running it; it has twice the pixels for sharp screens.
alt.renderers.enable("png", ppi=144)
pl.Config(tbl_rows=30, tbl_cols=-1, fmt_str_lengths=80, fmt_table_cell_list_len=8, tbl_hide_dataframe_shape=True)


@alt.theme.register("notebooks", enable=True)
def theme() -> alt.theme.ThemeConfig:
    """Return the look of the charts: large letters, few lines, and the finding as the title."""
    return {
        "config": {
            "view": {"continuousWidth": WIDTH, "discreteWidth": WIDTH, "stroke": None},
            "range": {"category": [BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE]},
            "title": {"anchor": "start", "fontSize": 16, "subtitleFontSize": 12, "subtitleColor": "#555", "offset": 12},
            "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 320},
            "axisX": {"grid": False, "labelOverlap": True, "labelSeparation": 6},
            "axisY": {"grid": False, "ticks": False, "domain": False},
            "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "orient": "top"},
            "bar": {"color": BLUE},
            "text": {"fontSize": 12},
        }
    }
