"""How predictions are scored: the metrics of GLUE.

They are those of paddlenlp.metrics, except that Spearman's correlation gives ties their mean rank (there: order of
appearance) and Matthews' is also right when one cell of the confusion matrix is empty (there: 0).
"""

import warnings

import numpy as np


def _accuracy(predictions, labels):
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


SCORERS = {  # each kind is called after the number by which checkpoints are compared
    "acc": _accuracy,
    "acc and f1": _accuracy_and_f1,
    "mcc": _matthews,
    "pearson and spearman": _correlations,
}


def score(task, predictions, labels):
    """Scores predictions by the task's metric.

    Args:
        task (Task): one of TASKS.
        predictions: class indices, or numbers for a regression; a sequence or an array.
        labels: what is right, of the same length.

    Returns:
        dict[str, float]: in printing order, `task.main_metric` among the keys. Always finite: what is undefined, such
        as the correlation with a constant, is 0.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn and scipy warn where we define 0
        if task.positive != 1 and not task.is_regression:  # a model's own order of the classes
            predictions, labels = (np.asarray(indices) == task.positive for indices in (predictions, labels))
        scores = SCORERS[task.metric](predictions, labels)
    return {name: float(value) for name, value in scores.items()}


def format_scores(scores):
    """The part of the published evaluation line that holds the scores: `acc: 0.5, `, all digits."""
    return "".join(f"{name}: {value}, " for name, value in scores.items())
