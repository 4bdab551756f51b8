"""What compare.py says of its findings: a table, a report in two files, and where a difference begins."""

import sys

from files.atomic import atomic_file
from files.json_files import write_json
from files.pictures import one_line, panels, write_picture


def table(findings):
    """Markdown: a row per check, with what came closest to its limit or passed it."""
    lines = ["| check | compared | worst | mean | max | allowed | |", "| --- | --- | --- | --- | --- | --- | --- |"]
    groups = {}
    for finding in findings:
        groups.setdefault((finding.check, finding.allowed), []).append(finding)
    for (check, allowed), group in groups.items():
        worst = max(group, key=lambda finding: (not finding.passed, finding.max))
        limit = "" if allowed is None else f"{allowed:.0e}" if allowed else "0"
        verdict = "ok" if worst.passed else "differs"
        figures = f"{worst.mean:.2e} | {worst.max:.2e} | {limit}"
        lines.append(f"| {check} | {len(group)} | {worst.part} | {figures} | {verdict} |")
    return "\n".join(lines)


def report_files(path):
    """The two files of a report, for a path with or without either's ending."""
    path = str(path).removesuffix(".json").removesuffix(".md")
    return f"{path}.json", f"{path}.md"


def write_report(path, results, notes, arguments):
    """All figures as JSON, the tables as Markdown beside it."""
    from training.facts import run_facts

    figures, tables = report_files(path)
    models = {name: [finding._asdict() for finding in findings] for name, findings in results.items()}
    write_json(figures, {"models": models, "notes": notes, **run_facts(), "arguments": arguments})
    text = "".join(f"## {name}\n\n{table(findings)}\n\n" for name, findings in results.items())
    text += "".join(f"- {note}\n" for note in notes)
    with atomic_file(tables) as file:
        file.write(f"# Parity with {arguments['reference']}\n\n{text}".encode())


def judge(name, findings):
    """Whether all passed; if not, stderr gets where the difference begins."""
    failed = [finding for finding in findings if not finding.passed]
    if failed:
        begins = next((finding for finding in failed if finding.check == "layers"), failed[0])
        where = f"{begins.check}, {begins.part}: {begins.max:.2e} (mean {begins.mean:.2e})"
        print(f"{name}: {len(failed)} of {len(findings)} differ, first {where}", file=sys.stderr)
    return not failed


def draw_layers(models, path):
    """Lines of the largest and the mean difference after each layer; `models`: name → parity.layers' findings."""
    picture, ((panel,),) = panels(1, 1, (7.5, 4))
    lines = {}
    for number, (name, findings) in enumerate(models.items()):
        for what, values, style in (
            ("largest", [finding.max for finding in findings], "o-"),
            ("mean", [finding.mean for finding in findings], ".:"),
        ):
            (lines[one_line(f"{name}, {what}")],) = panel.plot(values, style, color=f"C{number}")
    longest = max(models.values(), key=len)
    panel.set_xticks(range(len(longest)), ["emb.", *range(len(longest) - 1)])
    allowed = longest[0].allowed
    for limit, words in ((allowed, "allowed"), (allowed / 10, "allowed for the mean")):
        panel.axhline(limit, color="black", lw=0.6)
        panel.text(len(longest) - 1, limit * 1.05, words, fontsize=8, ha="right", va="bottom")
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter("{x:.0e}")  # by itself 10 with an exponent, a formula
    panel.yaxis.set_minor_formatter("")
    panel.set_ylim(top=allowed * 2)
    panel.set_xlabel("after layer")
    panel.set_ylabel("|difference|")
    place = dict(ncols=min(3, len(models)), loc="upper center", bbox_to_anchor=(0.5, -0.16))
    panel.legend(lines.values(), lines.keys(), fontsize=8, frameon=False, **place)  # by itself it leaves out "_name"
    write_picture(picture, path)
