"""An answer as titled sections, written as text or as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from roofline.cli.output import Format
from roofline.cli.tables import render_table
from roofline.provenance import Citation

__all__ = ["Section", "render", "source_documents", "source_section"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table or a list of remarks under a title.

    Parameters
    ----------
    header, rows : sequence of str
        A table; none where `header` is empty.
    left : int
        Columns of the table that are aligned left.
    remarks : tuple of str
        Sentences after the table.
    """

    title: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    left: int = 1
    remarks: tuple[str, ...] = ()


def render(title: str, sections: Iterable[Section], form: Format) -> str:
    """Return sections as plain text or Markdown."""
    parts = [f"# {title}" if form is Format.MD else title]
    for section in sections:
        lines = []
        if section.title:
            lines.append(f"## {section.title}" if form is Format.MD else section.title)
        if section.header:
            table = render_table(section.header, section.rows, form, left=section.left)
            lines.append(f"\n{table}" if form is Format.MD else _indented(table))
        if section.remarks and form is Format.MD:
            lines.append("")
        lines += [f"- {text}" if form is Format.MD else f"  {text}" for text in section.remarks]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def source_documents(citations: Iterable[Citation]) -> list[dict[str, str]]:
    """Return each source that is cited once, as a plain document."""
    return [asdict(source) for source in dict.fromkeys(citation.source for citation in citations)]


def source_section(sources: Iterable[Mapping[str, str]]) -> list[Section]:
    """Return the section that lists sources; none where there are none."""
    remarks = tuple(
        f"{source['title']} ({source['kind']}, {source['accessed']}) {source['url']}" for source in sources
    )
    return [Section(title="Sources", remarks=remarks)] if remarks else []


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
