//! The keys of a compose file as tables: what may stand there, and what it means.
//!
//! A `Struct` lists its keys in the order in which they are printed. A key has a `Rule`, which says what a file may give it
//! (the published schema), and a `Kind`, which says what becomes of it. Everything else walks these tables: `check` compares
//! a file with the rules, `decode` makes the kinds' values, `print` writes them.

mod build;
mod deploy;
mod rules;
mod service;
mod top;

pub(crate) use self::build::ULIMIT;
pub(crate) use self::service::SERVICE;
pub(crate) use self::top::{FILE, PROJECT};
pub(crate) use self::top::{NETWORK, VOLUME};

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) fields: &'static [Field],
    /// Keys that must be there.
    pub(crate) required: &'static [&'static str],
    /// What `x-…` keys are.
    pub(crate) extensions: Extensions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extensions {
    Refused,
    /// Allowed, and not printed.
    Dropped,
    Kept,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// The key in JSON, when it is another one.
    pub(crate) json: &'static str,
    pub(crate) kind: Kind,
    pub(crate) rule: Rule,
    pub(crate) print: Print,
}

/// When a key is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Print {
    /// When its value is not its kind's zero.
    Set,
    /// Always.
    Always,
    /// Always in JSON, when set in YAML.
    AlwaysInJson,
    /// Always in YAML, when set in JSON.
    AlwaysInYaml,
}

/// What becomes of a value. The zero of a kind is its absence, but for the optional ones and for what is a pointer in Go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Checked and forgotten.
    Dropped,
    Text,
    Integer,
    Flag,
    /// Of 32 bits.
    Number,
    OptionalInteger,
    OptionalFlag,
    /// Bytes, in a text with a unit or a number.
    Bytes,
    Duration,
    OptionalDuration,
    Texts,
    /// A list or a text in a shell's words; an empty one differs from none.
    Command,
    HealthTest,
    /// `KEY=VALUE` or a mapping; no value is the empty one.
    Mapping,
    /// The same, where no value is one that comes from elsewhere.
    Environment,
    Labels,
    MultiOptions,
    Hosts,
    Ssh,
    EnvFiles,
    Mode,
    Cpus,
    DeviceCount,
    Ulimits,
    /// There or not.
    One(&'static Struct),
    /// Always there in JSON.
    Inline(&'static Struct),
    Many(&'static Struct),
    /// Names and what they stand for.
    Named(&'static Struct),
    /// The same, where a name may stand alone.
    NamedOrNull(&'static Struct),
}

/// What a file may say.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    Any,
    /// No key of files.
    Unknown,
    Types(&'static [Type]),
    /// Text, or a whole number between these.
    Range(i64, i64),
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A text in which there is what a container can be named.
    ContainerName,
    /// A text in which one of these stands.
    Mentions(&'static [&'static str]),
    List(&'static Rule),
    /// A list in which nothing is there twice.
    Unique(&'static Rule),
    /// Names of this form, and what they stand for.
    Map(Names, &'static Rule),
    Keys(&'static Struct),
    /// The first rule for the value's type.
    Either(&'static [Rule]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Any,
    /// Letters, digits, `.`, `_` and `-`.
    Resources,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Text,
    Flag,
    Integer,
    Number,
    Null,
    List,
    Map,
}

const fn field(name: &'static str, kind: Kind, rule: Rule) -> Field {
    Field { name, json: name, kind, rule, print: Print::Set }
}

const fn always(name: &'static str, kind: Kind, rule: Rule) -> Field {
    Field { name, json: name, kind, rule, print: Print::Always }
}

const fn strict(fields: &'static [Field]) -> Struct {
    Struct { fields, required: &[], extensions: Extensions::Refused }
}

const fn open(fields: &'static [Field]) -> Struct {
    Struct { fields, required: &[], extensions: Extensions::Kept }
}
