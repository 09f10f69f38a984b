#![cfg_attr(fuzzing, no_main)]

matchlock_fuzz::target!(control_frame);
