//! What is said about arguments that cannot be understood: one line, and a hint that answers it.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::CliError;

/// What users of Docker type, and what does it here.
const FAMILIAR: [(&str, &str); 8] = [
    ("-m", "use --memory 512m"),
    ("ps", "use matchlock list"),
    ("--network", "use --no-network, or --allow-host HOST"),
    ("-v", "not there yet; use --disk, or tar c . | matchlock run -i --image IMAGE -- tar x"),
    ("--volume", "not there yet; use --disk, or tar c . | matchlock run -i --image IMAGE -- tar x"),
    ("images", "use matchlock image ls"),
    ("rmi", "use matchlock image rm"),
    ("load", "use matchlock image import"),
];

/// One line for what clap spreads over several, in the words that users of the reference know.
pub(super) fn describe(error: &clap::Error) -> CliError {
    let flag = text(error, ContextKind::InvalidArg);
    // Without the name of its value, as in `--rm[=<BOOL>]` and `<SHELL>`.
    let name = flag.split([' ', '[', '=']).next().unwrap_or_default().trim_matches(['<', '>']);
    let given = text(error, ContextKind::InvalidValue);
    let subcommand = text(error, ContextKind::InvalidSubcommand);
    let command = command(error);
    let message = match error.kind() {
        ErrorKind::UnknownArgument => format!("unknown flag: {flag}"),
        ErrorKind::InvalidSubcommand => format!("unknown command {subcommand:?} for {command:?}"),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if given.is_empty() => {
            format!("flag needs an argument: {name}")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            format!("invalid {name} {given:?}{}", what_is_valid(error))
        }
        ErrorKind::MissingRequiredArgument => format!("required argument(s) missing: {flag}"),
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            first.strip_prefix("error: ").unwrap_or(first).to_owned()
        }
    };
    let familiar = FAMILIAR.iter().find(|(word, _)| [&*flag, &*subcommand].contains(word));
    let hint = match (familiar, suggested(error)) {
        (Some((_, hint)), _) => (*hint).to_owned(),
        (None, Some(names)) => format!("did you mean {names}?"),
        (None, None) => format!("see `{command} --help`"),
    };
    CliError::new(message).hinted(hint)
}

fn text(error: &clap::Error, kind: ContextKind) -> String {
    values(error, kind).join(" ")
}

fn values(error: &clap::Error, kind: ContextKind) -> &[String] {
    match error.get(kind) {
        Some(ContextValue::String(text)) => std::slice::from_ref(text),
        Some(ContextValue::Strings(texts)) => texts,
        _ => &[],
    }
}

/// Names that are similar to the one that is not known.
fn suggested(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand];
    kinds.into_iter().find_map(|kind| one_of(values(error, kind)))
}

/// `: use ` and what a value may be: the words of the value's own parser, or all possible values.
fn what_is_valid(error: &clap::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let possible =
        || one_of(values(error, ContextKind::ValidValue)).map(|names| format!("use {names}"));
    cause.or_else(possible).map_or_else(String::new, |valid| format!(": {valid}"))
}

/// `a, b or c`.
fn one_of(names: &[String]) -> Option<String> {
    let (last, others) = names.split_last()?;
    Some(if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) })
}

/// The words of the command that the arguments were for, such as `matchlock image`.
fn command(error: &clap::Error) -> String {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let is_name = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    let words = usage.split_whitespace().skip_while(|word| *word != "matchlock");
    let words: Vec<&str> = words.take_while(is_name).collect();
    if words.is_empty() { "matchlock".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::cli::parse;

    fn refused(line: &str) -> (String, String) {
        // The name that the program was started by does not matter.
        let words = ["/tmp/other-name"].into_iter().chain(line.split(' ')).map(OsString::from);
        let Err(error) = parse(words) else { panic!("{line} is refused") };
        (error.message().to_owned(), error.hint().unwrap_or_default().to_owned())
    }

    #[test]
    fn an_error_names_the_command_and_what_is_nearest() {
        let cases = [
            (
                "frobnicate",
                "unknown command \"frobnicate\" for \"matchlock\"",
                "see `matchlock --help`",
            ),
            (
                "image inspect",
                "unknown command \"inspect\" for \"matchlock image\"",
                "see `matchlock image --help`",
            ),
            (
                "volume crate a",
                "unknown command \"crate\" for \"matchlock volume\"",
                "did you mean create?",
            ),
            ("run -Z x", "unknown flag: -Z", "see `matchlock run --help`"),
            ("run --memry 2g x", "unknown flag: --memry", "did you mean --memory?"),
            (
                "audit verify",
                "required argument(s) missing: <FILE>",
                "see `matchlock audit verify --help`",
            ),
            (
                "completion tcsh",
                "invalid SHELL \"tcsh\": use bash, fish, powershell or zsh",
                "see `matchlock --help`",
            ),
        ];
        for (line, message, hint) in cases {
            assert_eq!(refused(line), (message.to_owned(), hint.to_owned()), "{line}");
        }
    }

    #[test]
    fn what_users_of_docker_type_is_answered() {
        assert_eq!(refused("run -m 512 x").1, "use --memory 512m");
        assert!(refused("run -v /a:/b x").1.contains("--disk"));
        assert_eq!(refused("images").1, "use matchlock image ls");
    }
}
