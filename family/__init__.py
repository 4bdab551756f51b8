"""BERT, ELECTRA and ERNIE on ConvBERT's encoder, layer and heads: the same without the convolution.

`architectures` is the table of all four; `configurations` has their sizes and needs no Paddle.
"""
