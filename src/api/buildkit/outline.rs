//! What a build of a target takes: arguments, secrets and ssh agents, as `--call=outline` lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cais_dockerfile::instruction::{Arg, MountType};
use cais_dockerfile::{
    Base, Command, Dockerfile, Env, Instruction, ParseError, Platform, Range, Scope,
};
use serde_json::{Value, json};

use crate::builder::Options;

/// Of the description, not of the language.
const VERSION: &str = "1.0.0";
const AGENT: &str = "default";

/// As BuildKit's `frontend.outline` describes it.
///
/// # Errors
/// What is wrong with the file, or with what it is to be built for.
pub(super) fn describe(
    text: &str,
    options: &Options,
) -> Result<BTreeMap<String, Vec<u8>>, ParseError> {
    let file = Dockerfile::parse(text.as_bytes())?;
    let whole = |message: String| ParseError::new(Range::default(), message);
    let target_name = Some(options.target.as_str()).filter(|name| !name.is_empty());
    let target = file.target(target_name).map_err(|fault| whole(fault.message))?;
    let platform = Platform::or_host(&options.platform).map_err(whole)?;
    let build_args = options.given_args();
    let globals = file.globals(&Platform::host(), &platform, target_name, &build_args)?;
    let graph = file.graph(&globals)?;
    let mut taken =
        Taken { file: &file, globals: &globals, build_args: &build_args, all: Vec::new() };
    let mut scopes: BTreeMap<usize, Scope> = BTreeMap::new();
    for index in graph.needed_by(target) {
        let Some(stage) = file.stages.get(index) else { continue };
        taken.mentioned(&stage.base);
        taken.mentioned(stage.platform.as_deref().unwrap_or_default());
        let mut scope = match graph.bases.get(index) {
            Some(Base::Stage(other)) => scopes.get(other).map(Scope::child).unwrap_or_default(),
            _ => Scope::default(),
        };
        for instruction in &stage.instructions {
            taken.instruction(instruction, &mut scope)?;
        }
        scopes.insert(index, scope);
    }
    let stage = file.stages.get(target);
    let name = stage.and_then(|stage| stage.name.clone()).unwrap_or_default();
    let description = stage.and_then(|stage| stage.description.clone()).unwrap_or_default();
    Ok(taken.told((&name, &description), text))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Arg,
    Secret,
    Agent,
}

struct Item {
    kind: Kind,
    name: String,
    value: String,
    description: String,
    is_required: bool,
    range: Range,
}

/// Each once, where it is first met.
struct Taken<'a> {
    file: &'a Dockerfile,
    globals: &'a Env,
    build_args: &'a BTreeMap<String, String>,
    all: Vec<Item>,
}

impl Taken<'_> {
    fn add(&mut self, item: Item) {
        if !self.all.iter().any(|known| (known.kind, &known.name) == (item.kind, &item.name)) {
            self.all.push(item);
        }
    }

    fn global(&self, name: &str) -> Option<(Arg, Range)> {
        self.file.global_args.iter().find_map(|instruction| {
            let found = declared(&instruction.command)?.iter().find(|arg| arg.name == name);
            found.map(|arg| (arg.clone(), instruction.range))
        })
    }

    /// Global arguments whose values a word is filled in with, and those that they are made of.
    fn mentioned(&mut self, word: &str) {
        let all = self.file.global_args.iter().filter_map(|it| declared(&it.command));
        let names = all.flatten().map(|arg| arg.name.clone());
        for name in names.filter(|name| mentions(word, name)).collect::<BTreeSet<_>>() {
            self.take_global(&name);
        }
    }

    fn take_global(&mut self, name: &str) -> bool {
        let Some((arg, range)) = self.global(name) else { return false };
        if !self.all.iter().any(|known| known.kind == Kind::Arg && known.name == name) {
            let value = self.globals.get(name).unwrap_or_default().to_owned();
            self.add(argument(arg.clone(), value, range));
            self.mentioned(&arg.default.unwrap_or_default());
        }
        true
    }

    fn instruction(&mut self, written: &Instruction, scope: &mut Scope) -> Result<(), ParseError> {
        let expander = self.file.expander();
        let applied = scope.apply(written, &expander, self.globals, self.build_args)?;
        match (&applied.command, &written.command) {
            (Command::Arg(args), Command::Arg(as_written)) => {
                for (arg, own) in args.iter().zip(as_written) {
                    // One that is declared above the first FROM, and only taken over here.
                    if own.default.is_none() && self.take_global(&arg.name) {
                        continue;
                    }
                    let value = arg.default.clone().unwrap_or_default();
                    self.add(argument(arg.clone(), value, written.range));
                }
            }
            (Command::Run(run), _) => {
                for flag in &run.mounts {
                    let mount = flag.resolve(&mut |word| expander.expand(word, &scope.env));
                    let mount = mount.map_err(|why| ParseError::new(written.range, why.message))?;
                    let last = mount.target.rsplit('/').next().unwrap_or_default();
                    let (kind, other) = match mount.kind {
                        MountType::Secret => (Kind::Secret, last),
                        MountType::Ssh => (Kind::Agent, AGENT),
                        MountType::Bind | MountType::Cache | MountType::Tmpfs => continue,
                    };
                    self.add(Item {
                        kind,
                        name: if mount.id.is_empty() { other.to_owned() } else { mount.id.clone() },
                        value: String::new(),
                        description: String::new(),
                        is_required: mount.required,
                        range: written.range,
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn told(mut self, (name, description): (&str, &str), text: &str) -> BTreeMap<String, Vec<u8>> {
        self.all.sort_by_key(|item| item.range.start.line);
        let mut result = json!({ "sources": [BASE64.encode(text)] });
        let mut set = |key: &str, value: Value| result[key] = value;
        let mut shown = String::new();
        if !name.is_empty() {
            set("name", json!(name));
        }
        if !description.is_empty() {
            set("description", json!(description));
        }
        if !(name.is_empty() && description.is_empty()) {
            let name = if name.is_empty() { "(default)" } else { name };
            // Writing to a string does not fail.
            let _ = writeln!(shown, "TARGET: {name}\nDESCRIPTION: {description}\n");
        }
        for (kind, key, head) in [
            (Kind::Arg, "args", "BUILD ARG   VALUE   DESCRIPTION"),
            (Kind::Secret, "secrets", "SECRET   REQUIRED"),
            (Kind::Agent, "ssh", "SSH   REQUIRED"),
        ] {
            let of_kind: Vec<&Item> = self.all.iter().filter(|item| item.kind == kind).collect();
            if of_kind.is_empty() {
                continue;
            }
            set(key, of_kind.iter().map(|item| item.told()).collect());
            let _ = writeln!(shown, "{head}");
            for item in of_kind {
                let required = if item.is_required { "true" } else { "" };
                let Item { name, value, description, .. } = item;
                let line = format!("{name}   {value}{required}   {description}");
                let _ = writeln!(shown, "{}", line.trim_end());
            }
            shown.push('\n');
        }
        BTreeMap::from([
            ("result.json".to_owned(), format!("{result:#}").into_bytes()),
            ("result.txt".to_owned(), shown.into_bytes()),
            ("version".to_owned(), VERSION.as_bytes().to_vec()),
        ])
    }
}

impl Item {
    fn told(&self) -> Value {
        let place = |line: usize| json!({ "line": line });
        let range = json!({
            "start": place(self.range.start.line),
            "end": place(self.range.end.line),
        });
        let mut told = json!({ "name": self.name, "location": { "ranges": [range] } });
        let mut set = |key: &str, value: Value| told[key] = value;
        if !self.value.is_empty() {
            set("value", json!(self.value));
        }
        if !self.description.is_empty() {
            set("description", json!(self.description));
        }
        if self.is_required {
            set("required", json!(true));
        }
        told
    }
}

fn declared(command: &Command) -> Option<&[Arg]> {
    let Command::Arg(args) = command else { return None };
    Some(args)
}

fn argument(arg: Arg, value: String, range: Range) -> Item {
    let description = arg.description.unwrap_or_default();
    Item { kind: Kind::Arg, name: arg.name, value, description, is_required: false, range }
}

/// Whether a word has `$name` in it, or `${name…}`.
fn mentions(word: &str, name: &str) -> bool {
    word.split('$').skip(1).any(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let after = rest.strip_prefix(name).map(|after| after.chars().next());
        after.is_some_and(|next| !next.is_some_and(|it| it.is_alphanumeric() || it == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::buildkit::attrs;

    const TEXT: &str = "\
# TAG which base it is
ARG TAG=1
ARG NAME=base:$TAG
ARG UNUSED=x
FROM $NAME AS build
# MODE how it is made
ARG MODE=fast
RUN --mount=type=secret,id=token,required --mount=type=ssh make $MODE
FROM other AS unneeded
ARG NOT=here
# app is what runs
FROM scratch AS app
ARG TAG
COPY --from=build /x /
";

    #[test]
    fn what_a_target_takes_is_listed_once_and_in_order() {
        let attrs = BTreeMap::from([("build-arg:MODE".to_owned(), "slow".to_owned())]);
        let options = attrs::read(&attrs, &BTreeMap::new(), None).unwrap().options;
        let described = describe(TEXT, &options).unwrap();
        let result: Value = serde_json::from_slice(&described["result.json"]).unwrap();
        assert_eq!(
            (&result["name"], &result["description"]),
            (&json!("app"), &json!("is what runs"))
        );
        let args: Vec<_> = result["args"].as_array().unwrap().iter().collect();
        let names: Vec<_> = args.iter().map(|arg| arg["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["TAG", "NAME", "MODE"]);
        assert_eq!((&args[1]["value"], &args[2]["value"]), (&json!("base:1"), &json!("slow")));
        assert_eq!(args[2]["description"], "how it is made");
        assert_eq!(args[0]["location"]["ranges"][0]["start"]["line"], 2);
        assert_eq!(result["secrets"][0]["required"], true);
        assert_eq!(
            (&result["ssh"][0]["name"], &result["ssh"][0]["required"]),
            (&json!("default"), &Value::Null)
        );
        let shown = String::from_utf8(described["result.txt"].clone()).unwrap();
        assert!(shown.contains("MODE   slow   how it is made\n"), "{shown}");

        let attrs = BTreeMap::from([("target".to_owned(), "none".to_owned())]);
        let options = attrs::read(&attrs, &BTreeMap::new(), None).unwrap().options;
        assert!(
            describe(TEXT, &options).unwrap_err().message.contains("\"none\" could not be found")
        );
    }
}
