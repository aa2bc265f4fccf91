use cais_proto::nri::v1alpha1::{
    Hook, LinuxContainer, LinuxMemory, LinuxResources, OptionalInt, OptionalInt64,
};

use super::*;

fn pristine() -> Container {
    Container {
        id: "c".into(),
        args: vec!["sleep".into(), "1".into()],
        env: vec!["PATH=/bin".into(), "HOME=/".into()],
        annotations: [("kept".to_owned(), "1".to_owned())].into(),
        mounts: vec![mount("/proc", "proc"), mount("/data", "/host")],
        linux: Some(LinuxContainer::default()),
        ..Default::default()
    }
}

fn mount(destination: &str, source: &str) -> Mount {
    Mount { destination: destination.into(), source: source.into(), ..Default::default() }
}

fn variable(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: value.into() }
}

fn answer(adjust: ContainerAdjustment) -> CreateContainerResponse {
    CreateContainerResponse { adjust: Some(adjust), ..Default::default() }
}

fn env(variables: &[(&str, &str)]) -> CreateContainerResponse {
    let env = variables.iter().map(|(key, value)| variable(key, value)).collect();
    answer(ContainerAdjustment { env, ..Default::default() })
}

fn linux(linux: LinuxContainerAdjustment) -> CreateContainerResponse {
    answer(ContainerAdjustment { linux: Some(linux), ..Default::default() })
}

#[test]
fn each_plugin_sees_what_those_before_it_did() {
    let mut adjustment = Adjustment::of(pristine());
    adjustment.add("00-a", env(&[("A", "1"), ("PATH", "/sbin")])).unwrap();
    assert_eq!(adjustment.container().env, ["PATH=/sbin", "HOME=/", "A=1"]);
    adjustment.add("10-b", env(&[("-HOME", ""), ("B", "2")])).unwrap();
    assert_eq!(adjustment.container().env, ["PATH=/sbin", "A=1", "B=2"]);
    assert_eq!(adjustment.pristine().env, pristine().env);
}

#[test]
fn what_another_plugin_set_can_be_replaced_only_after_removing_it() {
    let mut adjustment = Adjustment::of(pristine());
    adjustment.add("00-a", env(&[("A", "1")])).unwrap();
    let conflict = adjustment.add("10-b", env(&[("A", "2")])).unwrap_err();
    assert_eq!(conflict.chain(), "plugins 10-b and 00-a both set Env \"A\"");

    adjustment.add("10-b", env(&[("-A", ""), ("A", "2")])).unwrap();
    assert_eq!(adjustment.adjust().env, [variable("A", "2")]);
    assert!(adjustment.add("20-c", env(&[("A", "3")])).is_err());
}

#[test]
fn a_removal_takes_back_an_earlier_addition() {
    let mut adjustment = Adjustment::of(pristine());
    adjustment.add("00-a", env(&[("A", "1")])).unwrap();
    adjustment.add("10-b", env(&[("-A", "")])).unwrap();
    assert_eq!(adjustment.adjust().env, [variable("-A", "")]);
    assert_eq!(adjustment.container().env, pristine().env);
}

#[test]
fn annotations_and_mounts_are_added_replaced_and_removed() {
    let mut adjustment = Adjustment::of(pristine());
    let asked = ContainerAdjustment {
        annotations: [("new", "2"), ("-kept", "")].map(|(k, v)| (k.into(), v.into())).into(),
        mounts: vec![mount("-/proc", ""), mount("/data", "/other"), mount("/more", "/m")],
        ..Default::default()
    };
    adjustment.add("00-a", answer(asked)).unwrap();
    let container = adjustment.container();
    assert_eq!(container.annotations, [("new".to_owned(), "2".to_owned())].into());
    assert_eq!(container.mounts, [mount("/data", "/other"), mount("/more", "/m")]);
}

#[test]
fn the_command_line_may_be_taken_over_with_an_empty_first_word() {
    let args = |words: &[&str]| {
        let args = words.iter().map(|word| (*word).to_owned()).collect();
        answer(ContainerAdjustment { args, ..Default::default() })
    };
    let mut adjustment = Adjustment::of(pristine());
    adjustment.add("00-a", args(&["true"])).unwrap();
    assert!(adjustment.add("10-b", args(&["false"])).unwrap_err().chain().contains("Args"));
    adjustment.add("10-b", args(&["", "wrap", "true"])).unwrap();
    assert_eq!(adjustment.finish().container.args, ["wrap", "true"]);
}

#[test]
fn resources_are_owned_field_by_field() {
    let memory = |limit: Option<i64>, swap: Option<i64>| {
        let value = |value: Option<i64>| value.map(|value| OptionalInt64 { value });
        let memory = LinuxMemory { limit: value(limit), swap: value(swap), ..Default::default() };
        LinuxResources { memory: Some(memory), ..Default::default() }
    };
    let asked = |resources| {
        linux(LinuxContainerAdjustment { resources: Some(resources), ..Default::default() })
    };
    let mut adjustment = Adjustment::of(pristine());
    adjustment.add("00-a", asked(memory(Some(1), None))).unwrap();
    adjustment.add("10-b", asked(memory(None, Some(2)))).unwrap();
    let conflict = adjustment.add("20-c", asked(memory(Some(3), None))).unwrap_err();
    assert_eq!(conflict.chain(), "plugins 20-c and 00-a both set MemLimit");

    let owners = adjustment.owners();
    let simple = &owners.owners["c"].simple;
    assert_eq!(simple[&i32::from(Field::MemLimit)], "00-a");
    assert_eq!(simple[&i32::from(Field::MemSwapLimit)], "10-b");
    let own = adjustment.container().linux.unwrap().resources.unwrap();
    assert_eq!(own, memory(Some(1), Some(2)));
}

#[test]
fn a_single_value_has_one_owner_and_hooks_have_many() {
    let score = |value| {
        let oom_score_adj = Some(OptionalInt { value });
        linux(LinuxContainerAdjustment { oom_score_adj, ..Default::default() })
    };
    let mut adjustment = Adjustment::of(pristine());
    adjustment.add("00-a", score(5)).unwrap();
    assert!(adjustment.add("10-b", score(6)).unwrap_err().chain().contains("OomScoreAdj"));

    let hook = |path: &str| {
        let prestart = vec![Hook { path: path.into(), ..Default::default() }];
        let hooks = Some(Hooks { prestart, ..Default::default() });
        answer(ContainerAdjustment { hooks, ..Default::default() })
    };
    adjustment.add("00-a", hook("/a")).unwrap();
    adjustment.add("10-b", hook("/b")).unwrap();
    let paths: Vec<String> =
        adjustment.container().hooks.unwrap().prestart.into_iter().map(|it| it.path).collect();
    assert_eq!(paths, ["/a", "/b"]);
}
