use std::time::Duration;

use super::*;
use crate::instruction::{CommandLine, Healthcheck, Mount, MountType, Network, Security, Sharing};

fn file(source: &str) -> Dockerfile {
    Dockerfile::parse(source.as_bytes()).unwrap()
}

fn command(line: &str) -> Command {
    file(&format!("FROM x\n{line}")).stages.remove(0).instructions.remove(0).command
}

fn refusal(source: &str) -> String {
    Dockerfile::parse(source.as_bytes()).unwrap_err().to_string()
}

#[test]
fn stages_begin_with_from_and_arguments_may_stand_above() {
    let file = file(
        "ARG V=1\n# build compiles\nfrom --platform=$BUILDPLATFORM a:$V as Build\nRUN x\nFROM scratch\nCMD [\"y\"]",
    );
    assert_eq!(file.global_args.len(), 1);
    let stage = &file.stages[0];
    assert_eq!((stage.name.as_deref(), stage.base.as_str()), (Some("build"), "a:$V"));
    assert_eq!(stage.platform.as_deref(), Some("$BUILDPLATFORM"));
    assert_eq!(stage.description.as_deref(), Some("compiles"));
    assert_eq!((stage.keyword.as_str(), stage.range.start.line), ("from", 3));
    assert_eq!(stage.instructions[0].code, "RUN x");
    assert_eq!(file.stage_named("BUILD"), Some(0));
    assert_eq!(file.target(None), Ok(1));
    assert_eq!(
        file.target(Some("biuld")).unwrap_err().message,
        "target stage \"biuld\" could not be found (did you mean build?)"
    );
}

#[test]
fn commands_come_in_the_forms_of_shell_and_exec() {
    let line = |arguments: &[&str], is_shell| CommandLine {
        arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
        is_shell,
    };
    assert_eq!(command("CMD a  'b'"), Command::Cmd(line(&["a  'b'"], true)));
    assert_eq!(
        command("ENTRYPOINT [\"a\", \"b c\"]"),
        Command::Entrypoint(line(&["a", "b c"], false))
    );
    assert_eq!(command("CMD []"), Command::Cmd(line(&[], false)));
    assert_eq!(command("CMD"), Command::Cmd(line(&[], true)));
    assert_eq!(command("SHELL [\"a\"]"), Command::Shell(vec!["a".to_owned()]));
    assert_eq!(command("STOPSIGNAL SIGKILL"), Command::Stopsignal("SIGKILL".to_owned()));
}

#[test]
fn copies_know_their_flags_and_their_inline_files() {
    let Command::Copy(copy) = command(
        "COPY --from=a --chown=1:2 --chmod=u=rwX --link --parents=false --exclude=*.md --exclude=b x <<-'E' /d\n\t$y\n\tE",
    ) else {
        panic!("no COPY")
    };
    assert_eq!(
        (copy.from.as_str(), copy.chown.as_str(), copy.chmod.as_str()),
        ("a", "1:2", "u=rwX")
    );
    assert!(copy.link && !copy.parents);
    assert_eq!(copy.exclude, ["*.md", "b"]);
    assert_eq!(copy.sources.paths, ["x"]);
    let inline = &copy.sources.files[0];
    assert_eq!(
        (inline.name.as_str(), inline.content.as_str(), inline.expands),
        ("E", "$y\n", false)
    );
    let Command::Add(add) = command("ADD --checksum=sha256:1 --keep-git-dir --unpack=FALSE a /b")
    else {
        panic!("no ADD")
    };
    assert_eq!((add.keep_git_dir, add.unpack), (Some(true), Some(false)));
    assert_eq!(add.checksum, "sha256:1");
}

#[test]
fn a_run_knows_its_mounts_network_security_and_devices() {
    let Command::Run(run) = command(
        "RUN --mount=type=cache,target=/c,sharing=locked,mode=0700,uid=5 --mount=from=b,ro,target=$T \
         --network=none --security=insecure --device=a.com/b=c,required make",
    ) else {
        panic!("no RUN")
    };
    assert_eq!((run.network, run.security), (Network::None, Security::Insecure));
    assert!(run.devices[0].required && run.devices[0].name == "a.com/b=c");
    let mount = |index: usize| run.mounts[index].resolve(&mut |word| Ok(word.replace("$T", "/t")));
    assert_eq!(
        mount(0).unwrap(),
        Mount {
            kind: MountType::Cache,
            target: "/c".to_owned(),
            sharing: Some(Sharing::Locked),
            mode: Some(0o700),
            uid: Some(5),
            ..Mount::default()
        }
    );
    let bind = mount(1).unwrap();
    assert_eq!((bind.from.as_str(), bind.target.as_str(), bind.readonly), ("b", "/t", true));
}

#[test]
fn a_mount_that_makes_no_sense_says_why() {
    for (mount, why) in [
        ("type=bnd", "unsupported mount type \"bnd\" (did you mean bind?)"),
        ("type=cache,sharing=none", "unsupported sharing value \"none\""),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,src=b", "both source and id can't be set"),
        ("type=bind,mode=0755", "mode not allowed for \"bind\" type mounts"),
        ("type=cache,uid=x", "invalid value x for uid"),
        ("type=tmpfs,size=5q", "invalid value for size: 5q"),
        ("size=5", "unexpected key 'size' for mount type 'bind'"),
        ("taget=/x", "unexpected key 'taget' in 'taget=/x' (did you mean target?)"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("type=ssh,sharing=shared", "invalid cache sharing set for ssh mount"),
    ] {
        let Command::Run(run) = command(&format!("RUN --mount={mount} x")) else {
            panic!("no RUN")
        };
        let resolved = run.mounts[0].resolve(&mut |word| Ok(word.to_owned()));
        assert_eq!(resolved.unwrap_err().message, why, "{mount}");
    }
    let Command::Run(run) = command("RUN --mount=type=tmpfs,size=1.5GiB,target=/x x") else {
        panic!("no RUN")
    };
    let mount = run.mounts[0].resolve(&mut |word| Ok(word.to_owned())).unwrap();
    assert_eq!((mount.size, mount.readonly), (1_610_612_736, false));
}

#[test]
fn a_healthcheck_has_durations_and_a_test() {
    assert_eq!(
        command(
            "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0s --start-interval=1.5s --retries=3 CMD a b"
        ),
        Command::Healthcheck(Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), "a b".to_owned()],
            interval: Duration::from_secs(90),
            timeout: Duration::from_millis(500),
            start_period: Duration::ZERO,
            start_interval: Duration::from_millis(1500),
            retries: 3,
        })
    );
    let none = Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() };
    assert_eq!(command("HEALTHCHECK none"), Command::Healthcheck(none));
}

#[test]
fn a_script_is_a_run_whose_command_is_one_heredoc() {
    let Command::Run(run) = command("RUN <<-E\n\techo a\n\tE") else { panic!("no RUN") };
    assert_eq!(run.script().as_deref(), Some("echo a\n"));
    let Command::Run(run) = command("RUN cat <<A > /x && cat <<B\na\nA\nb\nB") else {
        panic!("no RUN")
    };
    assert_eq!(run.script(), None);
    assert_eq!(run.command_with_heredocs(), "cat <<A > /x && cat <<B\na\nA\nb\nB");
}

#[test]
fn a_trigger_is_kept_as_text_and_read_where_it_is_pulled() {
    assert_eq!(
        command("onbuild   COPY --from=x a /b"),
        Command::Onbuild("COPY --from=x a /b".to_owned())
    );
    let trigger = command("ONBUILD RUN <<E\nx\nE");
    assert_eq!(trigger, Command::Onbuild("RUN <<E\nx\nE".to_owned()));
    let here = Range { start: crate::Position { line: 7, column: 1 }, ..Range::default() };
    let pulled = Instruction::from_trigger("USER me", here).unwrap();
    assert_eq!((pulled.command, pulled.range), (Command::User("me".to_owned()), here));
    assert_eq!(
        Instruction::from_trigger("RUN a\nRUN b", here).unwrap_err().message,
        "onbuild trigger should be a single expression"
    );
}

const REFUSALS: &[(&str, &str)] = &[
    ("", "the Dockerfile cannot be empty"),
    ("ARG a", "dockerfile contains no stages to build"),
    ("RUN x", "no build stage in current context"),
    ("FORM x", "dockerfile parse error on line 1: unknown instruction: FORM (did you mean FROM?)"),
    (
        "FROM x\n\nrnu y",
        "dockerfile parse error on line 3: unknown instruction: rnu (did you mean run?)",
    ),
    ("FROM", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
    (
        "FROM x AS 1a",
        "dockerfile parse error on line 1: invalid name for build stage: \"1a\", name can't start with a number or contain symbols",
    ),
    (
        "FROM x\nCOPY --form=y a b",
        "dockerfile parse error on line 2: unknown flag: --form (did you mean from?)",
    ),
    (
        "FROM x\nCOPY --from a b",
        "dockerfile parse error on line 2: missing a value on flag: --from",
    ),
    (
        "FROM x\nCOPY --link=1 a b",
        "dockerfile parse error on line 2: expecting boolean value for flag --link, not: 1",
    ),
    (
        "FROM x\nCOPY --from=a --from=b a b",
        "dockerfile parse error on line 2: duplicate flag specified: --from",
    ),
    (
        "FROM x\nCOPY a",
        "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
    ),
    (
        "FROM x\nCOPY a <<E\nE",
        "dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination",
    ),
    ("FROM x\nENV =a", "dockerfile parse error on line 2: ENV names can not be blank"),
    ("FROM x\nUSER", "dockerfile parse error on line 2: USER requires exactly one argument"),
    (
        "FROM x\nVOLUME [\" \"]",
        "dockerfile parse error on line 2: VOLUME specified can not be an empty string",
    ),
    (
        "FROM x\nSHELL a",
        "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form",
    ),
    (
        "FROM x\nONBUILD ONBUILD RUN x",
        "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
    ),
    (
        "FROM x\nONBUILD from y",
        "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger",
    ),
    (
        "FROM x\nHEALTHCHECK TCP x",
        "dockerfile parse error on line 2: Unknown type \"TCP\" in HEALTHCHECK (try CMD)",
    ),
    (
        "FROM x\nHEALTHCHECK --interval=1us CMD x",
        "dockerfile parse error on line 2: Interval \"interval\" cannot be less than 1ms",
    ),
    (
        "FROM x\nHEALTHCHECK --timeout=5 CMD x",
        "dockerfile parse error on line 2: time: missing unit in duration \"5\"",
    ),
    (
        "FROM x\nRUN --mount=from=$y z",
        "dockerfile parse error on line 2: 'from' doesn't support variable expansion, define alias stage instead",
    ),
    ("FROM x\nRUN --network=no z", "dockerfile parse error on line 2: invalid network mode \"no\""),
    (
        "FROM x\nRUN --security=no z",
        "dockerfile parse error on line 2: security \"no\" is not valid",
    ),
];

#[test]
fn what_is_wrong_is_told_in_buildkits_words() {
    for (source, message) in REFUSALS {
        assert_eq!(refusal(source), *message, "{source:?}");
    }
}

#[test]
fn an_error_points_at_the_word_that_is_wrong() {
    let error =
        Dockerfile::parse(b"FROM x\nRUN a && \\\n   b\n  COPY \\\n    --chwon=1 a b").unwrap_err();
    assert_eq!((error.line, error.column), (5, 5));
    assert_eq!((error.range.start.line, error.range.end.line), (4, 5));
    assert!(
        error.to_string().starts_with("dockerfile parse error on line 4: unknown flag: --chwon")
    );
}

#[test]
fn globals_are_the_platforms_the_arguments_above_and_what_the_client_gives() {
    let file = file("ARG V=1 W=$V-$TARGETARCH NONE\nARG V=2\nFROM x AS last");
    let platform = |text| Platform::parse(text).unwrap();
    let build_args = BTreeMap::from([("V".to_owned(), "9".to_owned())]);
    let globals = file
        .globals(&platform("linux/amd64"), &platform("linux/arm64/v8"), None, &build_args)
        .unwrap();
    for (name, value) in [
        ("V", Some("9")),
        ("W", Some("9-arm64")),
        ("NONE", None),
        ("BUILDPLATFORM", Some("linux/amd64")),
        ("TARGETPLATFORM", Some("linux/arm64/v8")),
        ("TARGETVARIANT", Some("v8")),
        ("TARGETSTAGE", Some("last")),
    ] {
        assert_eq!(globals.get(name), value, "{name}");
    }
}
