"""A web server for predictors, with the protocol of OpenAI's API."""
