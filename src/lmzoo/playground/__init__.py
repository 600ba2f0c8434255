"""The playground: web pages on which one can watch every kind of model at work."""
