//! Nodes and a value make text.

use super::parse::{Node, Operand, Pipeline};
use super::{Missing, functions, print};
use crate::json::Value;

struct Evaluation<'a> {
    missing: Missing<'a>,
    /// `$` is the first one. An inner declaration hides an outer one.
    variables: Vec<(String, Value)>,
    out: String,
    column: usize,
}

pub(super) fn execute(
    nodes: &[Node],
    value: &Value,
    missing: Missing<'_>,
) -> Result<String, String> {
    let variables = vec![(String::new(), value.clone())];
    let mut evaluation = Evaluation { missing, variables, out: String::new(), column: 1 };
    evaluation.nodes(nodes, value)?;
    Ok(evaluation.out)
}

impl Evaluation<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        for node in nodes {
            self.node(node, dot)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), String> {
        let depth = self.variables.len();
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&print::value_of(&value, last_field(pipeline)));
                }
                // What it declared lasts to the end of the list.
                return Ok(());
            }
            Node::If { test, then, otherwise } => {
                let holds = is_true(&self.pipeline(test, dot)?);
                self.nodes(if holds { then } else { otherwise }, dot)?;
            }
            Node::With { test, then, otherwise } => {
                let value = self.pipeline(test, dot)?;
                if is_true(&value) {
                    self.nodes(then, &value)?;
                } else {
                    self.nodes(otherwise, dot)?;
                }
            }
            Node::Range { over, each, otherwise } => self.range(over, each, otherwise, dot)?,
        }
        self.variables.truncate(depth);
        Ok(())
    }

    fn range(
        &mut self,
        over: &Pipeline,
        each: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), String> {
        let depth = self.variables.len();
        let value = self.commands(over, dot)?;
        let entries: Vec<(Value, Value)> = match value {
            Value::Array(items) => (0_i64..).map(Value::from).zip(items).collect(),
            Value::Object(mut members) => {
                members.sort_by(|a, b| a.0.cmp(&b.0));
                members.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            Value::Number(number) => {
                (0..number.as_i64().unwrap_or_default()).map(|it| (it.into(), it.into())).collect()
            }
            Value::Null => Vec::new(),
            Value::Bool(_) | Value::String(_) => {
                let shown = print::value_of(&value, None);
                return Err(self.error(over, &format!("range can't iterate over {shown}")));
            }
        };
        if entries.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in entries {
            match over.variables.as_slice() {
                [] => {}
                [one] => self.variables.push((one.clone(), value.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), value.clone()));
                }
            }
            self.nodes(each, &value)?;
            self.variables.truncate(depth);
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
            } else if let Some(it) = self.variables.iter_mut().rev().find(|it| it.0 == *name) {
                it.1 = value.clone();
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        self.column = pipeline.column;
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(pipeline, command, last, dot)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(
        &mut self,
        pipeline: &Pipeline,
        command: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let (first, rest) = command.split_first().ok_or("empty command")?;
        if let Operand::Function(name) = first {
            // These two stop at the first answer.
            if matches!(name.as_str(), "and" | "or") {
                return self.logic(name == "and", rest, piped, dot);
            }
            let mut arguments = Vec::with_capacity(rest.len() + 1);
            for operand in rest {
                arguments.push(self.operand(operand, dot)?);
            }
            arguments.extend(piped);
            return functions::call(name, &arguments)
                .map_err(|what| self.error(pipeline, &format!("error calling {name}: {what}")));
        }
        if let (Operand::Fields(_), [key], None) = (first, rest, &piped) {
            // The one method of a row that takes an argument: `.Label "name"`.
            let labels = self.operand(first, dot)?;
            if let (Value::Object(_) | Value::Null, Value::String(key)) =
                (&labels, self.operand(key, dot)?)
            {
                return Ok(labels[key.as_str()].text().into());
            }
        }
        if !rest.is_empty() || piped.is_some() {
            return Err(self.error(
                pipeline,
                &format!("can't give argument to non-function {}", shown(first)),
            ));
        }
        self.operand(first, dot)
    }

    fn logic(
        &mut self,
        is_and: bool,
        operands: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let mut value = Value::Null;
        for operand in operands {
            value = self.operand(operand, dot)?;
            if is_true(&value) != is_and {
                return Ok(value);
            }
        }
        Ok(piped.unwrap_or(value))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Fields(path) => self.fields(dot, path, operand),
            Operand::Variable(name, path) => {
                let found = self.variables.iter().rev().find(|it| it.0 == *name);
                let value = found.map(|it| it.1.clone());
                let value =
                    value.ok_or_else(|| format!("template: :1: undefined variable \"${name}\""))?;
                self.fields(&value, path, operand)
            }
            Operand::Function(name) => functions::call(name, &[]),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Group(pipeline, path) => {
                let value = self.pipeline(pipeline, dot)?;
                self.fields(&value, path, operand)
            }
        }
    }

    fn fields(&self, value: &Value, path: &[String], operand: &Operand) -> Result<Value, String> {
        let mut value = value.clone();
        for name in path {
            let of_object = matches!(value, Value::Object(_)) && self.missing == Missing::Key;
            let member = value.member(name).cloned();
            let member = member.or_else(|| super::absent::value(name).filter(|_| of_object));
            value = member.ok_or_else(|| self.no_field(&value, name, operand))?;
        }
        Ok(value)
    }

    fn no_field(&self, value: &Value, name: &str, operand: &Operand) -> String {
        let what = match (self.missing, value) {
            (Missing::Field(of), _) => format!("can't evaluate field {name} in type {of}"),
            (Missing::Key, Value::Object(_)) => format!("map has no entry for key \"{name}\""),
            (Missing::Key, Value::Null) => format!("nil pointer evaluating interface {{}}.{name}"),
            (Missing::Key, _) => format!("can't evaluate field {name} in type interface {{}}"),
        };
        self.error_at(&shown(operand), &what)
    }

    fn error(&self, pipeline: &Pipeline, what: &str) -> String {
        let first = pipeline.commands.first().and_then(|it| it.first());
        self.error_at(&first.map(shown).unwrap_or_default(), what)
    }

    fn error_at(&self, place: &str, what: &str) -> String {
        format!("template: :1:{}: executing \"\" at <{place}>: {what}", self.column)
    }
}

/// What `if`, `with`, `and`, `or` and `not` mean by true.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// The field that a pipeline of nothing else ends with: it tells what an absent value is the absence of.
fn last_field(pipeline: &Pipeline) -> Option<&str> {
    match pipeline.commands.as_slice() {
        [command] => match command.as_slice() {
            [Operand::Fields(path) | Operand::Variable(_, path) | Operand::Group(_, path)] => {
                path.last().map(String::as_str)
            }
            _ => None,
        },
        _ => None,
    }
}

fn shown(operand: &Operand) -> String {
    let fields = |path: &[String]| path.iter().map(|it| format!(".{it}")).collect::<String>();
    match operand {
        Operand::Fields(path) if path.is_empty() => ".".to_owned(),
        Operand::Fields(path) => fields(path),
        Operand::Variable(name, path) => format!("${name}{}", fields(path)),
        Operand::Function(name) => name.clone(),
        Operand::Literal(value) => value.compact(),
        Operand::Group(_, path) => format!("(...){}", fields(path)),
    }
}
