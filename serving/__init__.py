"""Requests to a fine-tuned model: `predictor` answers texts, `explanation` draws what the model does with one.

The server's parts: `batching`, the thread that computes for all requests; `application`, its paths and page, with
`entrance` around them; `connections`, on which it listens; `metrics`, what it counts.
"""
