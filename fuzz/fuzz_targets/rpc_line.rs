#![cfg_attr(fuzzing, no_main)]

matchlock_fuzz::target!(rpc_line);
