"""Drawing a graph before and after: as text for Graphviz, and by its command ``dot``."""

from __future__ import annotations

import html
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Tuple

from bert_serving.graph_opt.errors import GraphOptError, OptionError
from bert_serving.graph_opt.files import replacing
from bert_serving.graph_opt.outline import Block, Outline, Part, outline
from bert_serving.graph_opt.units import human_bytes

__all__ = ["Drawing", "check_plot", "dot_text", "outline", "write_plot"]

FORMATS = (".svg", ".png", ".pdf", ".dot")

# Fill and border.
_COLOURS: Mapping[str, Tuple[str, str]] = {
    "inputs and outputs": ("#fdf6e3", "#b58900"),
    "network": ("#eaf2fb", "#4a7ab0"),
    "only for training": ("#f2f2f2", "#a0a0a0"),
}
# What of training gets edges from the network.
_FROM_NETWORK = ("loss and labels", "gradients")
# So many operations are named in a block, the most frequent first.
_OPS_NAMED = 4


@dataclass(frozen=True)
class Drawing:
    """What is drawn: a title and the two graphs in outline."""

    title: str
    before: Outline
    after: Outline


def check_plot(path: Path) -> None:
    """Find out before the work whether it can be drawn.

    Raises:
        OptionError: an unknown format, no such directory, or Graphviz isn't installed.
    """
    if path.suffix not in FORMATS:
        raise OptionError("can't draw to %s: the name must end in %s" % (path, ", ".join(FORMATS)))
    if not path.parent.is_dir():
        raise OptionError("can't write %s: %s is no directory" % (path, path.parent))
    if path.suffix != ".dot" and shutil.which("dot") is None:
        raise OptionError(
            "drawing %s needs Graphviz, whose command dot isn't installed (on Debian and Ubuntu: "
            "apt-get install graphviz); a name that ends in .dot gives the text for it" % path
        )


def write_plot(drawing: Drawing, path: Path) -> None:
    """Draw to a file, in the format that its name ends in.

    Raises:
        GraphOptError: the file can't be written, or dot failed.
    """
    data = dot_text(drawing).encode("utf-8")
    if path.suffix != ".dot":
        done = subprocess.run(
            ["dot", "-T" + path.suffix[1:]],  # noqa: S607 - wherever the system has it
            input=data,
            capture_output=True,
        )
        if done.returncode:
            raise GraphOptError(
                "dot can't draw %s: %s" % (path, done.stderr.decode("utf-8", "replace").strip())
            )
        data = done.stdout
    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise GraphOptError("can't write %s: %s" % (path, error.strerror or error)) from error


def dot_text(drawing: Drawing) -> str:
    """The drawing in Graphviz's language: before on the left, after on the right."""
    lines = [
        "digraph optimization {",
        "  graph [rankdir=TB, compound=true, newrank=true, nodesep=0.3, ranksep=0.35,"
        ' fontname="Helvetica", labelloc=t, label=<%s>];' % _title(drawing),
        '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11,'
        ' margin="0.12,0.07"];',
        '  edge [color="#808080", arrowsize=0.6, fontname="Helvetica", fontsize=9,'
        ' fontcolor="#808080"];',
    ]
    for prefix, label, graph in (
        ("before", "Before", drawing.before),
        ("after", "After", drawing.after),
    ):
        lines += _side(prefix, label, graph)
    lines.append("}")
    return "\n".join(lines) + "\n"


def _title(drawing: Drawing) -> str:
    """Title and legend."""
    cells = "".join(
        '<td bgcolor="%s" color="%s" border="1"> %s </td>' % (fill, border, name)
        for name, (fill, border) in _COLOURS.items()
    )
    return (
        '<table border="0" cellspacing="6"><tr><td colspan="3"><font point-size="16">%s</font>'
        '</td></tr><tr>%s</tr><tr><td colspan="3"><font point-size="10">a block: the nodes of a '
        "scope, the bytes of their weights, their most frequent operations;<br/>an edge: how many "
        "tensors; dashed: back, to the next of the layers that are alike; grey: for training, not "
        "all of them</font></td></tr></table>" % (html.escape(drawing.title), cells)
    )


def _side(prefix: str, label: str, graph: Outline) -> Iterator[str]:
    yield "  subgraph cluster_%s {" % prefix
    yield '    style=rounded; color="#c0c0c0"; margin=14; fontsize=14;'
    yield '    label="%s: %s nodes, weights %s";' % (
        label,
        f"{graph.nodes:,}",
        human_bytes(graph.nbytes),
    )
    ids: Dict[Tuple[str, str], str] = {}
    for part in graph.parts:
        for block in part.blocks:
            ids[(part.name, block.name)] = "%s_%d" % (prefix, len(ids))
        names = [ids[(part.name, block.name)] for block in part.blocks]
        yield from ("    " + line for line in _part(part, names))
    yield from ("    " + line for line in _edges(graph, ids))
    yield "  }"


def _part(part: Part, names: List[str]) -> Iterator[str]:
    alone = len(part.blocks) == 1
    if not alone:
        times = ", %d alike" % part.repeats if part.repeats > 1 else ""
        total = part.repeats * sum(block.nbytes for block in part.blocks)
        yield "subgraph cluster_%s {" % names[0]
        yield 'style="rounded"; color="%s"; margin=8; fontsize=12; label="%s%s, %s";' % (
            _COLOURS[_kind(part)][1],
            part.name,
            times,
            human_bytes(total),
        )
    for name, block in zip(names, part.blocks):
        fill, border = _COLOURS[_kind(part)]
        yield '%s [label=<%s>, fillcolor="%s", color="%s"];' % (name, _label(block), fill, border)
    if not alone:
        yield "}"


def _kind(part: Part) -> str:
    if part.training:
        return "only for training"
    return "inputs and outputs" if part.name in ("inputs", "output") else "network"


def _label(block: Block) -> str:
    named = list(block.ops.items())[:_OPS_NAMED]
    rest = len(block.ops) - len(named)
    ops = ", ".join("%d %s" % (count, op) for op, count in named)
    return '<b>%s</b><br/>%s%s<br/><font point-size="9" color="#606060">%s%s</font>' % (
        html.escape(block.name),
        "1 node" if block.nodes == 1 else f"{block.nodes:,} nodes",
        ", " + human_bytes(block.nbytes) if block.nbytes else "",
        html.escape(ops),
        ", ..." if rest else "",
    )


def _edges(graph: Outline, ids: Mapping[Tuple[str, str], str]) -> Iterator[str]:
    """An edge back, from the end of a part to its beginning, stands for the next layer alike.

    Training touches every block several times. Of those edges one for each part is drawn, in grey,
    to the loss and to the gradients only, and those between the training parts.
    """
    order = {place: index for index, place in enumerate(ids)}
    training = {part.name: part.training for part in graph.parts}
    drawn = set()
    for (source, target), count in sorted(graph.edges.items(), key=lambda item: order[item[0][0]]):
        if source == target:
            continue  # from a layer to the next one, merged with it
        style = ['label="%d"' % count] if count > 1 else []
        if training[target[0]] or training[source[0]]:
            pair = (source[0], target[0])
            elsewhere = not training[source[0]] and target[0] not in _FROM_NETWORK
            if pair in drawn or elsewhere or order[source] > order[target]:
                continue
            drawn.add(pair)
            style = ['color="#c8c8c8"']
        elif order[source] > order[target]:
            style += ["constraint=false", "style=dashed"]
        yield "%s -> %s%s;" % (
            ids[source],
            ids[target],
            " [%s]" % ", ".join(style) if style else "",
        )
