"""The browser's screen, with Textual: a table that draws only what is seen, a pane, and a line for the condition."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Footer, Input, Static

from conntrack_py import text
from conntrack_py.browse.view import View, details, fitting
from conntrack_py.exceptions import WhereError
from conntrack_py.text import printable

#: Colours of directions in the terminal, as those of `summary`.
_COLOURS = {
    "egress": "yellow",
    "ingress": "cyan",
    "internal": "green",
    "transit": "magenta",
    "multicast": "grey62",
}


class Rows(ScrollView, can_focus=True):
    """Connections, one a line. Only lines on the screen are drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown,space", "page(1)", "page down", show=False),
        Binding("home,g", "end(False)", "first", show=False),
        Binding("end,G", "end(True)", "last", show=False),
    ]

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view
        self.at = 0

    def refresh_rows(self) -> None:
        """Draw anew, after a change of the view."""
        self.virtual_size = Size(self.size.width, len(self.view.rows))
        self.at = min(self.at, max(len(self.view.rows) - 1, 0))
        self._show()
        self.refresh()

    def on_resize(self, _: Resize) -> None:
        """Fit the columns."""
        self.refresh_rows()

    def render_line(self, y: int) -> Strip:
        """The line of a row."""
        place = y + self.scroll_offset.y
        width = self.size.width
        if place >= len(self.view.rows):
            return Strip.blank(width)
        columns = fitting(width)
        cells = self.view.cells(place, columns)
        chosen = Style(reverse=True) if place == self.at else Style()
        segments = []
        for column, cell in zip(columns, cells, strict=True):
            colour = _COLOURS.get(cell.strip()) if column.name == "direction" else None
            segments += [Segment(cell, chosen + Style(color=colour)), Segment(" ", chosen)]
        return Strip(segments).adjust_cell_length(width, chosen)

    def action_move(self, by: int) -> None:
        """Choose another row."""
        self._choose(self.at + by)

    def action_page(self, by: int) -> None:
        """Choose the row a screen further."""
        self._choose(self.at + by * max(self.size.height - 1, 1))

    def action_end(self, last: bool) -> None:
        """Choose the first or the last row."""
        self._choose(len(self.view.rows) - 1 if last else 0)

    def _choose(self, place: int) -> None:
        self.at = min(max(place, 0), max(len(self.view.rows) - 1, 0))
        self._show()
        self.refresh()
        self.app.query_one(Browser.PANE, Static).update(self.app.pane())  # type: ignore[attr-defined]

    def _show(self) -> None:
        top = self.scroll_offset.y
        if self.at < top:
            self.scroll_to(y=self.at, animate=False)
        elif self.at >= top + self.size.height:
            self.scroll_to(y=self.at - self.size.height + 1, animate=False)


class Browser(App[None]):
    """The browser of a table of connections."""

    PANE = "#pane"
    CSS = """
    Rows { overflow-x: hidden; }
    #head { height: 1; text-style: bold; }
    #title { height: 1; color: $text-muted; }
    #pane { height: auto; max-height: 50%; border-top: solid $primary; display: none; }
    #pane.shown { display: block; }
    #where { display: none; border: none; height: 1; padding: 0; }
    #where.shown { display: block; }
    #error { height: auto; color: $error; display: none; }
    #error.shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "pane", "evidence", priority=False),
        Binding("s", "sort", "sort by next"),
        Binding("r", "reverse", "reverse"),
        Binding("slash", "where", "condition", key_display="/"),
        Binding("escape", "all", "all", show=True),
        Binding("q", "quit", "quit"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, view: View, title: str) -> None:
        super().__init__()
        self.view = view
        self._name = printable(title)

    def compose(self) -> ComposeResult:
        """The widgets, from the top."""
        yield Static(id="title", markup=False)
        yield Static(id="head", markup=False)
        yield Rows(self.view)
        yield Static(id="pane", markup=False)
        yield Input(id="where", placeholder='direction == "egress" and resp_port == 443', compact=True)
        yield Static(id="error", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Show the table."""
        self.query_one(Rows).focus()
        self._update()

    def on_resize(self, _: Resize) -> None:
        """Fit the heads of columns."""
        self._update()

    def _update(self) -> None:
        self.query_one(Rows).refresh_rows()
        whole, shown = len(self.view.table), len(self.view.rows)
        kept = (
            text.counted(whole, "connection") if shown == whole else f"{shown:,} of {text.counted(whole, 'connection')}"
        )
        where = f" where {printable(self.view.where)}" if self.view.where else ""
        self.query_one("#title", Static).update(f"{self._name}: {kept}{where}")
        mark = "▼" if self.view.descending else "▲"
        heads = []
        for column in fitting(self.size.width):
            name = f"{column.name}{mark}" if column is self.view.sorted_by else column.name
            name = name[: column.width]
            heads.append(name.rjust(column.width) if column.right else name.ljust(column.width))
        self.query_one("#head", Static).update(" ".join(heads))
        self.query_one(self.PANE, Static).update(self.pane())

    def pane(self) -> Text:
        """The evidence and the facts of the chosen connection."""
        rows = self.query_one(Rows)
        if not len(self.view.rows):
            return Text("no connection")
        number = int(self.view.rows[rows.at])
        lines = [f"{name:>12}  {printable(words)}" for name, words in details(self.view.row(rows.at), number)]
        return Text("\n".join(lines))

    def action_pane(self) -> None:
        """Show or hide the pane."""
        self.query_one(self.PANE).toggle_class("shown")
        self.call_after_refresh(self.query_one(Rows).refresh_rows)

    def action_sort(self) -> None:
        """Sort by the next column that is shown."""
        shown = fitting(self.size.width)
        place = shown.index(self.view.sorted_by) if self.view.sorted_by in shown else -1
        column = shown[(place + 1) % len(shown)]
        # Numbers are sorted for the largest.
        self.view.sort(column, column.right)
        self._update()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.view.sort(self.view.sorted_by, not self.view.descending)
        self._update()

    def action_where(self) -> None:
        """Ask for a condition."""
        entry = self.query_one("#where", Input)
        entry.value = self.view.where
        entry.add_class("shown")
        entry.focus()

    def action_all(self) -> None:
        """Leave the condition's line; show all rows."""
        entry = self.query_one("#where", Input)
        if entry.has_class("shown"):
            self._leave(entry)
            return
        self.view.keep("")
        self._update()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the rows of the condition, or say what is wrong with it."""
        error = self.query_one("#error", Static)
        try:
            self.view.keep(event.value)
        except WhereError as wrong:
            error.update(str(wrong))
            error.add_class("shown")
            return
        self._leave(event.input)
        self._update()

    def _leave(self, entry: Input) -> None:
        self.query_one("#error").remove_class("shown")
        entry.remove_class("shown")
        self.query_one(Rows).focus()
