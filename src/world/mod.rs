//! Who trains together: the membership protocol of both sides as pure state machines.
