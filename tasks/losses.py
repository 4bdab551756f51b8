"""What the training of a classifier minimises: squared error, cross entropy, or that of each of several labels."""

import numpy as np
import paddle
import paddle.nn.functional as F

from layers.functions import in_float32, squared_error


def losses(task, logits, labels):
    """For every example by itself, float64 [N]; of several labels the mean of theirs. logits, labels: arrays."""
    from scipy.special import log_expit, log_softmax

    if task.is_regression:
        return (logits[:, 0].astype(np.float64) - labels) ** 2
    if task.several:
        signs = 2.0 * labels - 1
        return -log_expit(signs * logits).mean(axis=-1)
    return -log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels]


def mean_loss(task, logits, labels, weights=None):
    """The mean of the same, a tensor. logits, labels: tensors. weights: of balanced_weights; None: all alike."""
    if task.is_regression:
        return squared_error(logits.squeeze(-1), labels)
    if task.several:
        return _entropy_of_several(logits, labels, weights)
    return _entropy(logits, labels, weights)


@in_float32
def _entropy(logits, labels, weights):
    if weights is None:
        return F.cross_entropy(logits, labels)
    return (F.cross_entropy(logits, labels, reduction="none").flatten() * paddle.to_tensor(weights)[labels]).mean()


@in_float32
def _entropy_of_several(logits, labels, weights):
    if weights is None:
        return F.binary_cross_entropy_with_logits(logits, labels)
    without, having = paddle.to_tensor(weights)
    return F.binary_cross_entropy_with_logits(logits, labels, weight=labels * having + (1 - labels) * without)


def balanced_weights(task, labels):
    """By which all classes count alike: float32 [C], or of several labels [2, C], those of not having and of having it.

    An example's is N / (classes × examples of its class), as in scikit-learn's `class_weight="balanced"`, so that the
    mean over all N is 1. labels: as EncodedTexts has them.
    """
    if task.several:
        having = labels.sum(axis=0)
        counts = np.stack([len(labels) - having, having])
    else:
        counts = np.bincount(labels, minlength=task.num_labels)
    return (len(labels) / (len(counts) * np.maximum(counts, 1))).astype(np.float32)
