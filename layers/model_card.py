"""A model folder's README.md: Hugging Face's front matter, and in words what the model is and where it comes from."""

import logging
from pathlib import Path

from files.atomic import atomic_file

logger = logging.getLogger("convbert")

WRITTEN = "<!-- Written by this folder's maker and replaced by it; without this line the file stays as it is. -->"
PIPELINES = {  # end of a class's name → what Hugging Face calls the task
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "Generator": "fill-mask",
    "ForMaskedLM": "fill-mask",
    "Model": "feature-extraction",
}
MOST_LABELS = 20  # that are listed


def pipeline_of(model):
    """What Hugging Face calls the task of a model, by its class; None where it has no name."""
    return next((task for end, task in PIPELINES.items() if type(model).__name__.endswith(end)), None)


def is_own(path):
    """Whether a README.md is one that `write_card` wrote, or is not there."""
    return not path.is_file() or WRITTEN in path.read_text("utf-8", errors="replace").splitlines()


def base_model(source):
    """Front matter of what was made of a model of the Hugging Face hub, "hf:OWNER/NAME"; of another {}."""
    return {"base_model": source.removeprefix("hf:").partition("@")[0]} if source.startswith("hf:") else {}


def short_name(path):
    """What a card calls a folder or file of the user's: its last two parts."""
    return "/".join(Path(path).parts[-2:])


def write_card(folder, model, title, sections, began="", library=None, **front):
    """Writes `folder`/README.md, unless there is one that somebody else wrote.

    Args:
        model: what lies there.
        title: the first heading.
        sections: heading → text in Markdown.
        began: what it was before, a sentence.
        library: that loads the folder, by Hugging Face's name for it.
        **front: more fields of huggingface_hub.ModelCardData, eval_results with model_name for example.
    """
    from huggingface_hub import ModelCardData

    path, name = Path(folder) / "README.md", type(model).__name__
    if not is_own(path):
        logger.warning("%s: not written by a script here, and left as it is", path)
        return
    config = model.config
    tags = ["paddlepaddle", config.model_type]
    data = ModelCardData(library_name=library, pipeline_tag=pipeline_of(model), tags=tags, **front)
    count = sum(weight.size for weight in {id(weight): weight for weight in model.parameters()}.values()) / 1e6
    about = [f"`{name}`, {count:,.1f} million weights: {config.num_hidden_layers} layers of {config.hidden_size}."]
    about += [began] if began else []
    if config.label_names and len(config.label_names) <= MOST_LABELS:
        about.append(f"Labels, in their order: {', '.join(config.label_names)}.")
    parts = [f"---\n{data.to_yaml()}\n---\n{WRITTEN}\n\n# {title}", " ".join(about)]
    parts += [f"## {heading}\n\n{text}" for heading, text in sections.items() if text]
    with atomic_file(path) as file:
        file.write(("\n\n".join(parts) + "\n").encode())


def table(columns, rows):
    """Markdown; a row is a list of cells, numbers among them."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(cell):
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell).replace("|", "\\|").replace("\n", " ")
