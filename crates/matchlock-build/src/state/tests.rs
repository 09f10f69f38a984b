use super::*;

const BASE: &str = r#"{"architecture":"amd64","os":"linux","variant":"v2","container":"x",
    "config":{"Env":["B=1","A=2"],"Cmd":["base"],"WorkingDir":"/w","Labels":{"k":"v"},
    "OnBuild":["RUN x"],"ArgsEscaped":true,"ExposedPorts":null},
    "rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"base"}]}"#;

fn base() -> State {
    State::from_json(BASE).expect("a configuration")
}

fn json(state: &State) -> Value {
    serde_json::from_str(&state.to_json(&[], SystemTime::UNIX_EPOCH)).expect("JSON")
}

#[test]
fn what_the_base_says_stays() {
    let json = json(&base());
    assert_eq!(json["variant"], "v2");
    assert_eq!(json["config"]["ArgsEscaped"], true);
    assert_eq!(json["config"]["Labels"]["k"], "v");
    assert_eq!(json["config"]["Env"], json!(["B=1", "A=2", format!("PATH={PATH}")]));
    assert_eq!(json["history"][0]["created_by"], "base");
    assert_eq!(json["created"], "1970-01-01T00:00:00.000000Z");
    assert!(json.get("container").is_none());
}

#[test]
fn env_keeps_its_order() {
    let mut state = base();
    state.set_env("C", "3".into());
    state.set_env("B", "4".into());
    let names: Vec<_> = state.env().iter().map(|(n, v)| format!("{n}={}", &v[..1])).collect();
    assert_eq!(names, ["B=4", "A=2", "PATH=/", "C=3"]);
}

#[test]
fn an_entry_point_drops_the_bases_command_but_not_its_own() {
    let exec = |text: &str| Command::Exec(vec![text.into()]);
    let mut state = base();
    state.set_entrypoint(&exec("e"));
    assert!(json(&state)["config"].get("Cmd").is_none());
    let mut state = base();
    state.set_cmd(&Command::Shell("c d".into()));
    state.set_entrypoint(&exec("e"));
    assert_eq!(json(&state)["config"]["Cmd"], json!(["/bin/sh", "-c", "c d"]));
    state.begin_stage();
    state.set_entrypoint(&exec("f"));
    assert!(json(&state)["config"].get("Cmd").is_none());
    state.set_entrypoint(&Command::Exec(Vec::new()));
    assert!(json(&state)["config"].get("Entrypoint").is_none());
}

#[test]
fn triggers_are_taken_once() {
    let mut state = base();
    assert_eq!(state.begin_stage(), ["RUN x"]);
    state.add_trigger("RUN y");
    assert_eq!(json(&state)["config"]["OnBuild"], json!(["RUN y"]));
    assert_eq!(state.begin_stage(), ["RUN y"]);
    assert_eq!(state.begin_stage(), [""; 0]);
}

#[test]
fn ports_signals_and_checks_have_a_form() {
    let mut state = base();
    for good in ["80", "53/UDP", "8000-8002/tcp"] {
        state.expose(good).expect(good);
    }
    let ports = json(&state)["config"]["ExposedPorts"].as_object().map(Map::len);
    assert_eq!(ports, Some(5));
    for bad in ["", "0", "70000", "80/x", "9-8", "a"] {
        assert!(state.expose(bad).is_err(), "{bad}");
    }
    for good in ["SIGTERM", "9", "TERM", "SIGRTMIN+3"] {
        state.set_stop_signal(good).expect(good);
    }
    assert!(state.set_stop_signal("0").is_err() && state.set_stop_signal("a b").is_err());
    state.set_healthcheck(&Healthcheck::Test {
        command: Command::Exec(vec!["x".into()]),
        interval: Some(Duration::from_secs(3)),
        timeout: None,
        start_period: None,
        start_interval: None,
        retries: Some(2),
    });
    let check = json!({ "Test": ["CMD", "x"], "Interval": 3_000_000_000_u64, "Retries": 2 });
    assert_eq!(json(&state)["config"]["Healthcheck"], check);
}

#[test]
fn history_says_which_steps_made_layers() {
    let mut state = State::scratch("arm64");
    state.add_history("RUN x", true, SystemTime::UNIX_EPOCH);
    state.add_history("ENV a=b", false, SystemTime::UNIX_EPOCH);
    let json = json(&state);
    assert!(json["history"][0].get("empty_layer").is_none());
    assert_eq!(json["history"][1]["empty_layer"], true);
    assert_eq!(json["architecture"], "arm64");
}
