"""How generators are trained: the models that configs name as `model.type`."""
