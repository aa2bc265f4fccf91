//! Compares `api.proto` and `nri.proto` with the published interfaces, which `fields.txt` and `nri-fields.txt` list. A
//! wrong number or type compiles and runs; it only loses what the other side sent.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use protox::prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor,
};

const CRI: &str = "runtime.v1";
const NRI: &str = "nri.pkg.api.v1alpha1";

#[test]
fn every_call_message_field_and_value_of_cri_is_as_published() {
    compare("fields.txt", &Interface { pool: pool("api.proto"), package: CRI });
}

#[test]
fn every_call_message_field_and_value_of_nri_is_as_published() {
    compare("nri-fields.txt", &Interface { pool: pool("nri.proto"), package: NRI });
}

fn compare(table: &str, interface: &Interface) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("tests").join(table)).unwrap();
    let published: BTreeSet<String> =
        table.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let ours = interface.facts();

    let missing: Vec<_> = published.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&published).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "published, not ours: {missing:#?}\nours, not published: {extra:#?}"
    );
}

#[test]
fn the_interface_has_37_runtime_and_6_image_calls() {
    let pool = pool("api.proto");
    let calls =
        |name: &str| pool.get_service_by_name(&format!("{CRI}.{name}")).unwrap().methods().len();
    assert_eq!((calls("RuntimeService"), calls("ImageService")), (37, 6));
}

fn pool(file: &str) -> DescriptorPool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile([root.join(file)], [root]).unwrap();
    DescriptorPool::from_file_descriptor_set(descriptors).unwrap()
}

struct Interface {
    pool: DescriptorPool,
    package: &'static str,
}

impl Interface {
    /// In the lines of the tables.
    fn facts(&self) -> BTreeSet<String> {
        let mut facts = BTreeSet::new();
        for service in self.pool.services() {
            facts.extend(service.methods().map(|call| self.call_line(&call)));
        }
        for message in self.pool.all_messages().filter(|message| !message.is_map_entry()) {
            facts.insert(format!("message {}", self.name(message.full_name())));
            facts.extend(message.fields().map(|field| self.field_line(&message, &field)));
        }
        for list in self.pool.all_enums() {
            facts.insert(format!("enum {}", self.name(list.full_name())));
            facts.extend(self.value_lines(&list));
        }
        facts
    }

    fn call_line(&self, call: &MethodDescriptor) -> String {
        let stream = |is_stream| if is_stream { "stream " } else { "" };
        let (input, output) = (call.input(), call.output());
        format!(
            "call {} {}{} -> {}{}",
            self.name(call.full_name()),
            stream(call.is_client_streaming()),
            self.name(input.full_name()),
            stream(call.is_server_streaming()),
            self.name(output.full_name()),
        )
    }

    fn field_line(&self, message: &MessageDescriptor, field: &FieldDescriptor) -> String {
        assert!(
            field.containing_oneof().is_none(),
            "{}: the interface has no oneof and no optional",
            field.full_name()
        );
        let kind = match field.kind() {
            Kind::Message(entry) if entry.is_map_entry() => {
                let (key, value) =
                    (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
                format!("map<{},{}>", self.kind_name(&key), self.kind_name(&value))
            }
            kind if field.cardinality() == Cardinality::Repeated => {
                format!("repeated {}", self.kind_name(&kind))
            }
            kind => self.kind_name(&kind),
        };
        let message = self.name(message.full_name());
        format!("field {message}.{} {} {kind}", field.name(), field.number())
    }

    fn value_lines(&self, list: &EnumDescriptor) -> Vec<String> {
        let line =
            |value: &str, number| format!("value {}.{value} {number}", self.name(list.full_name()));
        list.values().map(|value| line(value.name(), value.number())).collect()
    }

    fn kind_name(&self, kind: &Kind) -> String {
        match kind {
            Kind::Message(message) => self.name(message.full_name()),
            Kind::Enum(list) => self.name(list.full_name()),
            // A scalar's Debug form is its name in the language.
            scalar => format!("{scalar:?}"),
        }
    }

    /// The name without the package; a name from outside the package fails.
    fn name(&self, full: &str) -> String {
        full.strip_prefix(self.package)
            .and_then(|rest| rest.strip_prefix('.'))
            .expect("outside the package")
            .to_owned()
    }
}
