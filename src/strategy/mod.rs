//! One worker's replicas: the variable scope, the gradient of a share, the training step.
