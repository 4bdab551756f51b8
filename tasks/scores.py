"""How predictions are scored: the metrics of GLUE, and those that own data may be compared by.

They are those of paddlenlp.metrics, except that Spearman's correlation gives ties their mean rank (there: order of
appearance) and Matthews' is also right when one cell of the confusion matrix is empty (there: 0).
"""

import functools
import warnings
from dataclasses import replace

import numpy as np

from files.errors import InputError


def _accuracy(predictions, labels):
    """Of several labels for a text: the share of the texts that have all of theirs right, and no other."""
    from sklearn.metrics import accuracy_score

    return {"acc": accuracy_score(labels, predictions)}


def _accuracy_and_f1(predictions, labels):
    """Precision, recall and F1 of class 1."""
    from sklearn.metrics import precision_recall_fscore_support

    accuracy = _accuracy(predictions, labels)["acc"]
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, average="binary", zero_division=0)
    return {"acc": accuracy, "precision": precision, "recall": recall, "f1": f1, "acc and f1": (accuracy + f1) / 2}


def _matthews(predictions, labels):
    from sklearn.metrics import matthews_corrcoef

    return {"mcc": matthews_corrcoef(labels, predictions)}


def _correlations(predictions, labels):
    from scipy.stats import pearsonr, spearmanr

    predictions, labels = np.asarray(predictions, np.float64), np.asarray(labels, np.float64)
    if len(labels) < 2:  # two points at least make a correlation
        pearson = spearman = 0.0
    else:
        pearson = np.nan_to_num(pearsonr(predictions, labels).statistic)  # NaN when one side is constant
        spearman = np.nan_to_num(spearmanr(predictions, labels).statistic)
    return {"pearson": pearson, "spearman": spearman, "pearson and spearman": (pearson + spearman) / 2}


def _mean_f1(average, predictions, labels):
    """F1 over all classes: of their counts together, or the mean of theirs, as it is or weighted by their examples."""
    from sklearn.metrics import f1_score

    return {f"{average}_f1": f1_score(labels, predictions, average=average, zero_division=0)}


def _several(predictions, labels):
    """For several labels: predictions, labels of 0 and 1 [N, C]."""
    averages = [_mean_f1(average, predictions, labels) for average in ("micro", "macro")]
    return averages[0] | averages[1] | _accuracy(predictions, labels)


SCORERS = {  # each is called after one of the numbers that it gives, by which checkpoints are compared
    "acc": _accuracy,
    "acc and f1": _accuracy_and_f1,
    "f1": _accuracy_and_f1,
    "precision": _accuracy_and_f1,
    "recall": _accuracy_and_f1,
    "micro_f1": _several,
    "macro_f1": functools.partial(_mean_f1, "macro"),
    "weighted_f1": functools.partial(_mean_f1, "weighted"),
    "mcc": _matthews,
    "pearson": _correlations,
    "spearman": _correlations,
    "pearson and spearman": _correlations,
}
OF_ONE_CLASS = "f1", "precision", "recall", "acc and f1"
METRICS = {  # what there is for each Task.problem
    "single_label_classification": ("acc", "macro_f1", "weighted_f1", "mcc", *OF_ONE_CLASS),
    "multi_label_classification": ("micro_f1", "macro_f1", "weighted_f1", "acc"),
    "regression": ("pearson", "spearman", "pearson and spearman"),
}


def compared_by(task, metric):
    """The task with another number by which checkpoints are compared. Raises InputError: it has no such number."""
    known = [name for name in METRICS[task.problem] if name not in OF_ONE_CLASS or task.num_labels == 2]
    if metric not in known:
        kind = "a regression" if task.is_regression else f"{task.num_labels} classes"
        kind = f"any number of {task.num_labels} labels" if task.several else kind
        raise InputError(f"--metric {metric}: not for {task.name}, {kind}; there are {', '.join(known)}")
    return replace(task, best_by=metric)


def score(task, predictions, labels):
    """Scores predictions by the task's metric.

    Args:
        task (Task): one of TASKS.
        predictions: class indices, or numbers for a regression, or 0 and 1 for several labels; a sequence or an array.
        labels: what is right, of the same length.

    Returns:
        dict[str, float]: in printing order, `task.main_metric` among the keys. Always finite: what is undefined, such
        as the correlation with a constant, is 0.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn and scipy warn where we define 0
        if task.positive != 1 and task.problem == "single_label_classification":  # a model's own order of the classes
            predictions, labels = (np.asarray(indices) == task.positive for indices in (predictions, labels))
        scores = SCORERS[task.metric](predictions, labels)
        if task.main_metric not in scores:
            scores |= SCORERS[task.main_metric](predictions, labels)
    return {name: float(value) for name, value in scores.items()}


def format_scores(scores):
    """The part of the published evaluation line that holds the scores: `acc: 0.5, `, all digits."""
    return "".join(f"{name}: {value}, " for name, value in scores.items())
