"""A trained model at work: labels, classes, numbers and features of images that are not prepared.

Preparation and windows are those of training, so that a prediction of a run's test images has the
run's scores.
"""
