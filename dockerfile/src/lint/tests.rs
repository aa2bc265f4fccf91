use super::*;
use crate::dockerignore;

/// What is found in a file, as `Rule@line message`; the error comes last.
fn found(source: &str) -> Vec<String> {
    found_with(source, |_| {})
}

fn found_with<'a>(source: &str, change: impl FnOnce(&mut Request<'a>)) -> Vec<String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let platform = Platform::parse("linux/amd64").unwrap();
    let mut request = Request {
        target: None,
        build_args: &NONE,
        build_platform: platform.clone(),
        target_platform: platform,
        ignored: None,
        options: None,
        image: &|_, _| None,
    };
    change(&mut request);
    let report = check(source.as_bytes(), &request);
    let warnings = report.warnings.iter().map(|warning| {
        format!("{}@{} {}", warning.rule.name, warning.range.start.line, warning.message)
    });
    warnings.chain(report.error.map(|error| error.to_string())).collect()
}

/// A file for every rule that needs nothing else, with what it finds.
const FINDINGS: &[(&str, &[&str])] = &[
    ("FROM a AS Base\nRUN x", &["StageNameCasing@1 Stage name 'Base' should be lowercase"]),
    ("FROM a as b\nRUN x", &["FromAsCasing@1 'as' and 'FROM' keywords' casing do not match"]),
    ("FROM a\nRUN x \\\n\n y", &["NoEmptyContinuation@4 Empty continuation line"]),
    (
        "FROM a\nRun x\nrun y",
        &[
            "ConsistentInstructionCasing@2 Command 'Run' should match the case of the command majority (uppercase)",
            "ConsistentInstructionCasing@3 Command 'run' should match the case of the command majority (uppercase)",
        ],
    ),
    (
        "FROM a AS b\nFROM a AS b",
        &["DuplicateStageName@2 Duplicate stage name \"b\", stage names should be unique"],
    ),
    (
        "FROM a AS scratch",
        &[
            "ReservedStageName@1 Stage name should not use the same name as reserved stage \"scratch\"",
        ],
    ),
    (
        "FROM a\nCMD x\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT y",
        &[
            "JSONArgsRecommended@2 JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ],
    ),
    (
        "FROM a\nMAINTAINER me",
        &["MaintainerDeprecated@2 Maintainer instruction is deprecated in favor of using label"],
    ),
    (
        "ARG VERSION=1\nFROM a:$VERSIN",
        &[
            "InvalidDefaultArgInFrom@2 Default value for ARG a:$VERSIN results in empty or invalid base image name",
            "UndefinedArgInFrom@2 FROM argument 'VERSIN' is not declared (did you mean VERSION?)",
            "failed to parse stage name \"a:\": invalid reference format",
        ],
    ),
    (
        "FROM a\nWORKDIR b\nWORKDIR c\nFROM a\nWORKDIR /d\nWORKDIR e",
        &[
            "WorkdirRelativePath@2 Relative workdir \"b\" can have unexpected results if the base image changes",
        ],
    ),
    (
        "FROM a\nARG KNOWN\nENV PATH=$PAHT:$KNOWN\nRUN --mount=target=$T x\nRUN echo $NOTHING",
        &[
            "UndefinedVar@3 Usage of undefined variable '$PAHT' (did you mean $PATH?)",
            "UndefinedVar@4 Usage of undefined variable '$T'",
            "invalid mount target \"/\"",
        ],
    ),
    (
        "FROM a\nCMD [\"x\"]\nCMD [\"y\"]",
        &[
            "MultipleInstructionsDisallowed@2 Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ],
    ),
    (
        "FROM a\nENV b c",
        &[
            "LegacyKeyValueFormat@2 \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ],
    ),
    (
        "FROM --platform=$TARGETPLATFORM a",
        &[
            "RedundantTargetPlatform@1 Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ],
    ),
    (
        "FROM a\nARG API_KEY PUBLIC_KEY\nENV TOKEN=x KEY_FILE=y MONKEY=z",
        &[
            "SecretsUsedInArgOrEnv@2 Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\")",
            "SecretsUsedInArgOrEnv@3 Do not use ARG or ENV instructions for sensitive data (ENV \"TOKEN\")",
        ],
    ),
    (
        "FROM --platform=linux/arm64 a AS b\nFROM --platform=linux/arm64 a AS b-arm64",
        &[
            "FromPlatformFlagConstDisallowed@1 FROM --platform flag should not use constant value \"linux/arm64\"",
        ],
    ),
    (
        "# check=experimental=InvalidDefinitionDescription\n# what it is\nFROM a AS b\n# x is it\nARG x\n# z\nARG y",
        &[
            "InvalidDefinitionDescription@3 Comment for FROM should follow the format: `# b <description>`",
            "InvalidDefinitionDescription@7 Comment for ARG should follow the format: `# y <description>`",
        ],
    ),
    (
        "FROM a\nEXPOSE 80/TCP 127.0.0.1:1:2",
        &[
            "ExposeInvalidFormat@2 EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:1:2'",
            "ExposeProtoCasing@2 Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        ],
    ),
];

#[test]
fn every_rule_finds_what_it_is_for() {
    for (source, findings) in FINDINGS {
        assert_eq!(found(source), *findings, "{source:?}");
    }
}

#[test]
fn there_are_22_rules_with_names_and_addresses_of_their_own() {
    let mut names: Vec<_> = rules::ALL.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 22);
    assert_eq!(
        rules::JSON_ARGS_RECOMMENDED.url,
        "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    );
}

#[test]
fn a_copied_file_that_is_left_out_of_the_context_is_reported() {
    let source = "FROM a\nCOPY x y /\nADD . /\nCOPY --from=b x /";
    let copies = |ignore: &str| {
        let matcher = Matcher::new(&dockerignore::parse(ignore.as_bytes())).unwrap();
        found_with(source, |request| request.ignored = Some(&matcher))
    };
    assert_eq!(
        copies("x\n"),
        ["CopyIgnoredFile@2 Attempting to Copy file \"x\" that is excluded by .dockerignore"]
    );
    assert_eq!(copies("*\n").len(), 3);
    assert!(copies("x\n!y\n").is_empty());
}

#[test]
fn sources_that_cannot_be_are_refused() {
    for (line, why) in [
        ("COPY http://x.io/a b", "source can't be a URL for COPY"),
        ("COPY git@x.io:a b", "source can't be a git ref for COPY"),
        (
            "COPY --chmod=9 a b",
            "invalid chmod parameter: '9'. it should be octal string and between 0 and 07777",
        ),
        ("ADD --checksum=sha256:1 a b", "checksum requires HTTP(S) or Git sources"),
        ("ADD --checksum=x a b /c", "checksum can't be specified for multiple sources"),
        ("ADD --checksum=sha256:1 http://x.io/a b", "invalid checksum digest length"),
        ("ADD https://x.io/a.git?x=y b", "unexpected query \"x\""),
        (
            "ADD --keep-git-dir=false https://x.io/a.git?keep-git-dir=true b",
            "inconsistent keep-git-dir configuration",
        ),
        ("ADD --checksum=a https://x.io/a.git?checksum=b b", "checksum mismatch \"a\" != \"b\""),
    ] {
        assert_eq!(found(&format!("FROM a\n{line}")), [why], "{line}");
    }
}

#[test]
fn an_image_for_another_platform_is_reported_and_its_configuration_counts() {
    let image = |name: &str, _: &Platform| {
        (name == "arm").then(|| BaseImage {
            platform: Platform::parse("linux/arm64/v8").unwrap(),
            env: vec!["HOME=/root".to_owned()],
            shell: vec!["/bin/ash".to_owned()],
            workdir: "/srv".to_owned(),
            onbuild: vec!["WORKDIR $HOME/$UNKNOWN".to_owned(), "CMD x".to_owned()],
        })
    };
    assert_eq!(
        found_with("FROM arm\nRUN --mount=type=cache,target=. x", |request| request.image = &image),
        [
            "InvalidBaseImagePlatform@1 Base image arm was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build",
            "UndefinedVar@1 Usage of undefined variable '$UNKNOWN'",
        ]
    );
}

#[test]
fn rules_are_turned_off_for_the_file_or_for_one_instruction() {
    let file = "FROM a as b\nMAINTAINER me\n";
    assert!(found(&format!("# check=skip=all\n{file}")).is_empty());
    assert_eq!(found(&format!("# check=skip=FromAsCasing\n{file}")).len(), 1);
    assert_eq!(found("FROM a as b\n# check=skip=MaintainerDeprecated\nMAINTAINER me\n").len(), 1);
    assert_eq!(
        found(&format!("# check=skip=FromAsCasing;error=true\n{file}"))[1],
        "lint violation found for rules: MaintainerDeprecated"
    );
    assert_eq!(
        found("# check=skp=x\nFROM a"),
        ["failed to parse check options: invalid check option \"skp\""]
    );
    assert!(found_with(file, |request| request.options = Some("skip=all")).is_empty());
}

#[test]
fn with_a_target_only_what_it_needs_is_checked() {
    let source = "FROM a AS b\nENV TOKEN=x\nFROM a AS c\nCMD x";
    let of_target = |target| found_with(source, |request| request.target = Some(target)).len();
    assert_eq!((found(source).len(), of_target("b"), of_target("c")), (2, 1, 1));
}
