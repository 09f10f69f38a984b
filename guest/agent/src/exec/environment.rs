//! What `execve` gets: environment, argument vector, and where the program may be.

use std::ffi::CString;

use matchlock_proto::DEFAULT_PATH;

type Variable = (Vec<u8>, Vec<u8>);

/// The environment of one execution, later additions win.
#[derive(Debug, Default)]
pub struct Environment {
    variables: Vec<Variable>,
}

impl Environment {
    /// Sets a variable; its place is that of the first setting.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        match self.variables.iter_mut().find(|(existing, _)| existing == name) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.variables.push((name.to_vec(), value.to_vec())),
        }
    }

    /// Sets all of these.
    pub fn extend(&mut self, variables: &[Variable]) {
        for (name, value) in variables {
            self.set(name, value);
        }
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.variables.iter().find(|(existing, _)| existing == name).map(|(_, value)| &**value)
    }

    /// The environment in the order of precedence: defaults, the sandbox's, `HOME`, the request's.
    #[must_use]
    pub fn merge(sandbox: &[Variable], home: &[u8], request: &[Variable], tty: bool) -> Self {
        let mut merged = Self::default();
        merged.set(b"PATH", DEFAULT_PATH.as_bytes());
        if tty {
            merged.set(b"TERM", b"xterm");
        }
        merged.extend(sandbox);
        if merged.get(b"HOME").is_none() {
            merged.set(b"HOME", home);
        }
        merged.extend(request);
        merged
    }

    /// `NAME=value` strings.
    ///
    /// # Errors
    /// The name of a variable that cannot be passed on.
    pub fn to_strings(&self) -> Result<Vec<CString>, String> {
        let string = |(name, value): &Variable| {
            let valid = !name.is_empty() && !name.contains(&b'=');
            valid
                .then(|| CString::new([name, &b"="[..], value].concat()).ok())
                .flatten()
                .ok_or_else(|| format!("environment variable {:?}", excerpt(name)))
        };
        self.variables.iter().map(string).collect()
    }
}

/// Text from a request as it is quoted in a failure: the names are of any bytes and any length.
#[must_use]
pub fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 256;
    match bytes.get(..LONGEST) {
        None => String::from_utf8_lossy(bytes).into_owned(),
        Some(beginning) => format!("{}...", String::from_utf8_lossy(beginning)),
    }
}

/// Where a program may be, in the order to try (execvp(3)): itself when its name has a slash, else
/// in each directory of `path`, of which an empty one is the working directory.
#[must_use]
pub fn candidates(program: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let in_directory = |directory: &[u8]| match directory {
        b"" => [b"./", program].concat(),
        _ => [directory, b"/", program].concat(),
    };
    path.split(|&byte| byte == b':').map(in_directory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn var(name: &str, value: &str) -> Variable {
        (name.into(), value.into())
    }

    fn shown(environment: &Environment) -> Vec<String> {
        let strings = environment.to_strings().expect("valid");
        strings.iter().map(|s| s.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn later_settings_win_and_leave_no_duplicate() {
        let sandbox = [var("A", "1"), var("PATH", "/opt"), var("A", "2")];
        let request = [var("B", "3"), var("A", "4")];
        let merged = Environment::merge(&sandbox, b"/home/x", &request, false);
        assert_eq!(shown(&merged), ["PATH=/opt", "A=4", "HOME=/home/x", "B=3"]);
    }

    #[test]
    fn home_of_the_account_fills_only_a_gap_and_the_request_has_the_last_word() {
        let home = |sandbox: &[Variable], request: &[Variable]| {
            let merged = Environment::merge(sandbox, b"/account", request, false);
            String::from_utf8(merged.get(b"HOME").expect("always set").to_vec()).expect("UTF-8")
        };
        assert_eq!(home(&[], &[]), "/account");
        assert_eq!(home(&[var("HOME", "/sandbox")], &[]), "/sandbox");
        assert_eq!(home(&[var("HOME", "/sandbox")], &[var("HOME", "/request")]), "/request");
    }

    #[test]
    fn a_terminal_has_a_type_unless_somebody_knows_better() {
        let term = |request: &[Variable], tty| {
            let merged = Environment::merge(&[], b"/", request, tty);
            merged.get(b"TERM").map(<[u8]>::to_vec)
        };
        assert_eq!(term(&[], false), None);
        assert_eq!(term(&[], true), Some(b"xterm".to_vec()));
        assert_eq!(term(&[var("TERM", "dumb")], true), Some(b"dumb".to_vec()));
    }

    #[test]
    fn names_and_values_that_no_environment_can_hold_are_refused() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
            let mut environment = Environment::default();
            environment.set(name.as_bytes(), value.as_bytes());
            assert!(environment.to_strings().is_err(), "{name:?}={value:?}");
        }
    }

    #[test]
    fn programs_are_looked_for_as_execvp_does() {
        let found = |program: &str, path: &str| -> Vec<String> {
            let all = candidates(program.as_bytes(), path.as_bytes());
            all.into_iter().map(|c| String::from_utf8(c).expect("UTF-8")).collect()
        };
        assert_eq!(found("ls", "/bin:/usr/bin"), ["/bin/ls", "/usr/bin/ls"]);
        assert_eq!(found("ls", "/bin::/x:"), ["/bin/ls", "./ls", "/x/ls", "./ls"]);
        assert_eq!(found("./ls", "/bin"), ["./ls"]);
        assert_eq!(found("a/b", "/bin"), ["a/b"]);
        assert_eq!(found("", "/bin"), Vec::<String>::new());
    }
}
