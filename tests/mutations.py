"""Changes to one piece of a model, which comparisons must notice."""


def wrapped(module, name, change):
    """A mutation: `change` gets the function and its arguments, and returns what shall come out instead."""

    def mutate(monkeypatch):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *inputs, **named: change(function, *inputs, **named))

    return mutate
