//! Compares `api.proto` with the published interface, which `fields.txt` lists. A wrong number or type compiles and
//! runs; it only loses what the other side sent.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use protox::prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor,
};

const PACKAGE: &str = "runtime.v1";

#[test]
fn every_call_message_field_and_value_is_as_published() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("tests/fields.txt")).unwrap();
    let published: BTreeSet<String> =
        table.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let ours = facts(&pool(root));

    let missing: Vec<_> = published.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&published).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "published, not ours: {missing:#?}\nours, not published: {extra:#?}"
    );
}

#[test]
fn the_interface_has_37_runtime_and_6_image_calls() {
    let pool = pool(Path::new(env!("CARGO_MANIFEST_DIR")));
    let calls = |name: &str| {
        pool.get_service_by_name(&format!("{PACKAGE}.{name}")).unwrap().methods().len()
    };
    assert_eq!((calls("RuntimeService"), calls("ImageService")), (37, 6));
}

fn pool(root: &Path) -> DescriptorPool {
    let descriptors = protox::compile([root.join("api.proto")], [root]).unwrap();
    DescriptorPool::from_file_descriptor_set(descriptors).unwrap()
}

/// The interface in the lines of `fields.txt`.
fn facts(pool: &DescriptorPool) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for service in pool.services() {
        facts.extend(service.methods().map(|call| call_line(&call)));
    }
    for message in pool.all_messages().filter(|message| !message.is_map_entry()) {
        facts.insert(format!("message {}", name(message.full_name())));
        facts.extend(message.fields().map(|field| field_line(&message, &field)));
    }
    for list in pool.all_enums() {
        facts.insert(format!("enum {}", name(list.full_name())));
        facts.extend(value_lines(&list));
    }
    facts
}

fn call_line(call: &MethodDescriptor) -> String {
    let stream = |is_stream| if is_stream { "stream " } else { "" };
    let (input, output) = (call.input(), call.output());
    format!(
        "call {} {}{} -> {}{}",
        name(call.full_name()),
        stream(call.is_client_streaming()),
        name(input.full_name()),
        stream(call.is_server_streaming()),
        name(output.full_name()),
    )
}

fn field_line(message: &MessageDescriptor, field: &FieldDescriptor) -> String {
    assert!(
        field.containing_oneof().is_none(),
        "{}: the interface has no oneof and no optional",
        field.full_name()
    );
    let kind = match field.kind() {
        Kind::Message(entry) if entry.is_map_entry() => {
            let (key, value) =
                (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            format!("map<{},{}>", kind_name(&key), kind_name(&value))
        }
        kind if field.cardinality() == Cardinality::Repeated => {
            format!("repeated {}", kind_name(&kind))
        }
        kind => kind_name(&kind),
    };
    format!("field {}.{} {} {kind}", name(message.full_name()), field.name(), field.number())
}

fn value_lines(list: &EnumDescriptor) -> Vec<String> {
    let line = |value: &str, number| format!("value {}.{value} {number}", name(list.full_name()));
    list.values().map(|value| line(value.name(), value.number())).collect()
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => name(message.full_name()),
        Kind::Enum(list) => name(list.full_name()),
        // A scalar's Debug form is its name in the language.
        scalar => format!("{scalar:?}"),
    }
}

/// The name without the package; a name from outside the package fails.
fn name(full: &str) -> String {
    full.strip_prefix(PACKAGE)
        .and_then(|rest| rest.strip_prefix('.'))
        .expect("outside the package")
        .to_owned()
}
