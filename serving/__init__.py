"""Single requests to a fine-tuned model: the predictor, its explanation of one text, the server's page."""
