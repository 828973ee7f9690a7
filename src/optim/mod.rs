//! The update: optimizers, schedules and clipping with the same bits on every device.
