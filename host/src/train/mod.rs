//! Training of autoencoders. Comes in: benign rows of features; goes out: a model and a report.
