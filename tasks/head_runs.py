"""How run_squad.py and run_tagging.py begin: what both need of a run with a head for every token."""

from typing import Any, NamedTuple

from tasks.classifiers import load_tokenizer, require_type
from tasks.heads import load_head
from training.fine_tuning import Start, precision_of


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    args: Any
    model: Any
    tokenizer: Any
    windows: Any
    output: Any  # Path
    precision: Any  # precision.Precision
    processes: Any  # processes.Processes
    start: Start
    last: Any  # the folder that a stopped run goes on from, or None
    settings: dict | None  # of settings.settings_of, of a training

    def save_model(self, folder):
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def engine(self):
        from tasks.programs import Dynamic

        return Dynamic(self.model, self.precision)

    def best(self, kind):
        """The same with the best model that was written, after a training."""
        self.processes.wait()  # for that
        names, changes = self.model.config.label_names, self.start.changes
        model = load_head(self.args.model_type, str(self.output), kind, self.tokenizer, "nothing", names, **changes)
        return self._replace(model=model)


def begin(args, processes, kind, windows, examples, names_of=lambda source: None):
    """The Run that flags ask for.

    Args:
        kind: of heads.KINDS.
        windows: how texts are cut.
        examples: split → questions or sentences.
        names_of: function of the resolved source: the names of the head's outputs, None for answers.

    Raises:
        InputError: the model can't be had or does not fit, or a stopped run was another one.
    """
    from conversion.sources import fetched, resolve
    from training.settings import examples_fact, require_same_settings, settings_of
    from training.start import open_output, require_positions

    precision = precision_of(args)
    named = args.init_from or args.model_name_or_path
    source = fetched(named)
    require_type(args.model_type, source)
    source = source if args.from_scratch else resolve(source, args.model_type)
    output, last = open_output(args, processes)
    start = Start.of(args, source, last)
    switches = args.do_lower_case, args.strip_accents, args.tokenize_chinese_chars
    tokenizer = load_tokenizer(args.model_type, start.source, args.vocab_file, *switches)
    settings = None
    if args.do_train:
        facts = {f"{split} examples": examples_fact(found) for split, found in examples.items()}
        settings = settings_of(args, args.batch_size, processes, named, tokenizer, **facts)
        if last:
            require_same_settings(last, settings)
    names = names_of(start.source)
    model = load_head(args.model_type, start.source, kind, tokenizer, start.new, names, **start.changes)
    require_positions(model, start.source, args.max_seq_length)
    tokenizer.model_max_length = args.max_seq_length
    if args.recompute:
        model.enable_recompute()
    return Run(args, model, tokenizer, windows, output, precision, processes, start, last, settings)
