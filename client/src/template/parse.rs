//! Nodes from tokens.

use super::functions;
use super::lex::{Token, error};
use crate::json::Value;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    If { test: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { test: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { over: Pipeline, each: Vec<Node>, otherwise: Vec<Node> },
}

/// `$x, $y := first | second | …`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    pub(super) variables: Vec<String>,
    pub(super) declares: bool,
    /// Each a list of operands: a function with its arguments, or one value.
    pub(super) commands: Vec<Vec<Operand>>,
    /// Where it stands, for errors.
    pub(super) column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    /// `.A.B`, of the dot.
    Fields(Vec<String>),
    /// `$x.A.B`
    Variable(String, Vec<String>),
    Function(String),
    Literal(Value),
    /// `(…).A.B`
    Group(Box<Pipeline>, Vec<String>),
}

/// How a list of nodes ended.
#[derive(Debug, PartialEq)]
enum End {
    Text,
    Closed,
    Else,
    /// `else if` and `else with`, with the rest of the action.
    ElseOf(&'static str, Pipeline),
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    column: usize,
}

pub(super) fn nodes(tokens: Vec<Token>) -> Result<Vec<Node>, String> {
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), column: 1 };
    match parser.list()? {
        (nodes, End::Text) => Ok(nodes),
        (_, End::Closed) => Err(error("unexpected {{end}}")),
        (_, End::Else | End::ElseOf(..)) => Err(error("unexpected {{else}}")),
    }
}

impl Parser {
    fn list(&mut self) -> Result<(Vec<Node>, End), String> {
        let mut nodes = Vec::new();
        loop {
            match self.tokens.next() {
                None => return Ok((nodes, End::Text)),
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                Some(Token::Open(column)) => {
                    self.column = column;
                    self.skip_space();
                    let Some(Token::Word(word)) = self.tokens.peek() else {
                        nodes.push(Node::Action(self.pipeline(&Token::Close)?));
                        continue;
                    };
                    match word.as_str() {
                        "end" => {
                            self.tokens.next();
                            self.expect_close()?;
                            return Ok((nodes, End::Closed));
                        }
                        "else" => {
                            self.tokens.next();
                            return Ok((nodes, self.after_else()?));
                        }
                        "if" => nodes.push(self.branch("if")?),
                        "with" => nodes.push(self.branch("with")?),
                        "range" => nodes.push(self.branch("range")?),
                        _ => nodes.push(Node::Action(self.pipeline(&Token::Close)?)),
                    }
                }
                Some(other) => return Err(unexpected(&other)),
            }
        }
    }

    fn after_else(&mut self) -> Result<End, String> {
        self.skip_space();
        let kind = match self.tokens.peek() {
            Some(Token::Word(word)) if word == "if" => "if",
            Some(Token::Word(word)) if word == "with" => "with",
            _ => {
                self.expect_close()?;
                return Ok(End::Else);
            }
        };
        self.tokens.next();
        Ok(End::ElseOf(kind, self.pipeline(&Token::Close)?))
    }

    fn branch(&mut self, kind: &'static str) -> Result<Node, String> {
        self.tokens.next();
        let test = self.pipeline(&Token::Close)?;
        self.rest_of_branch(kind, test)
    }

    fn rest_of_branch(&mut self, kind: &'static str, test: Pipeline) -> Result<Node, String> {
        let (then, end) = self.list()?;
        let otherwise = match end {
            End::Closed => Vec::new(),
            End::Else => match self.list()? {
                (nodes, End::Closed) => nodes,
                _ => return Err(error("expected end; found {{else}}")),
            },
            End::ElseOf(kind, test) => vec![self.rest_of_branch(kind, test)?],
            End::Text => return Err(error("unexpected EOF")),
        };
        Ok(match kind {
            "range" => Node::Range { over: test, each: then, otherwise },
            "with" => Node::With { test, then, otherwise },
            _ => Node::If { test, then, otherwise },
        })
    }

    fn pipeline(&mut self, end: &Token) -> Result<Pipeline, String> {
        let column = self.column;
        let (variables, declares) = self.declaration()?;
        let mut commands = vec![Vec::new()];
        loop {
            self.skip_space();
            let Some(token) = self.tokens.next() else { return Err(error("unclosed action")) };
            if token == *end {
                break;
            }
            if token == Token::Pipe {
                commands.push(Vec::new());
                continue;
            }
            let operand = self.operand(token)?;
            if let Some(command) = commands.last_mut() {
                command.push(operand);
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(error(if commands.len() == 1 {
                "missing value for command"
            } else {
                "missing value for pipeline"
            }));
        }
        Ok(Pipeline { variables, declares, commands, column })
    }

    /// `$x :=`, `$i, $x :=` or `$x =`. A variable that begins no declaration is an operand, so this looks ahead on a copy.
    fn declaration(&mut self) -> Result<(Vec<String>, bool), String> {
        let mut ahead = self.tokens.clone();
        let mut names = Vec::new();
        loop {
            while ahead.next_if_eq(&Token::Space).is_some() {}
            match ahead.next() {
                Some(Token::Variable(name)) if names.len() < 2 => names.push(name),
                Some(Token::Comma) if names.len() == 1 => {}
                Some(Token::Declare) if !names.is_empty() => {
                    self.tokens = ahead;
                    return Ok((names, true));
                }
                Some(Token::Assign) if names.len() == 1 => {
                    self.tokens = ahead;
                    return Ok((names, false));
                }
                _ => return Ok((Vec::new(), false)),
            }
        }
    }

    fn operand(&mut self, token: Token) -> Result<Operand, String> {
        Ok(match token {
            Token::Field(name) => {
                let mut fields = Vec::new();
                if !name.is_empty() {
                    fields.push(name);
                    fields.extend(self.chain());
                }
                Operand::Fields(fields)
            }
            Token::Variable(name) => Operand::Variable(name, self.chain()),
            Token::Quoted(text) => Operand::Literal(text.into()),
            Token::Number(text) => Operand::Literal(number(&text)?),
            Token::Left => {
                let group = self.pipeline(&Token::Right)?;
                Operand::Group(Box::new(group), self.chain())
            }
            Token::Word(word) => match word.as_str() {
                "true" => Operand::Literal(true.into()),
                "false" => Operand::Literal(false.into()),
                "nil" => Operand::Literal(Value::Null),
                _ if functions::exists(&word) => Operand::Function(word),
                _ => return Err(error(&format!("function {word:?} not defined"))),
            },
            other => return Err(unexpected(&other)),
        })
    }

    /// The fields that follow without white space.
    fn chain(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        while let Some(Token::Field(name)) =
            self.tokens.next_if(|it| matches!(it, Token::Field(name) if !name.is_empty()))
        {
            fields.push(name);
        }
        fields
    }

    fn skip_space(&mut self) {
        while self.tokens.next_if_eq(&Token::Space).is_some() {}
    }

    fn expect_close(&mut self) -> Result<(), String> {
        self.skip_space();
        match self.tokens.next() {
            Some(Token::Close) => Ok(()),
            Some(other) => Err(unexpected(&other)),
            None => Err(error("unclosed action")),
        }
    }
}

fn number(text: &str) -> Result<Value, String> {
    let digits = text.replace('_', "");
    if let Ok(number) = digits.parse::<i64>() {
        return Ok(number.into());
    }
    let hexadecimal = digits.strip_prefix("0x").and_then(|it| i64::from_str_radix(it, 16).ok());
    if let Some(number) = hexadecimal {
        return Ok(number.into());
    }
    let number = digits.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
    number.map(Value::Number).ok_or_else(|| error(&format!("bad number syntax: {text:?}")))
}

fn unexpected(token: &Token) -> String {
    let text = match token {
        Token::Close => "}}".to_owned(),
        Token::Pipe => "|".to_owned(),
        Token::Left => "(".to_owned(),
        Token::Right => ")".to_owned(),
        Token::Comma => ",".to_owned(),
        Token::Declare => ":=".to_owned(),
        Token::Assign => "=".to_owned(),
        Token::Word(text) | Token::Text(text) | Token::Quoted(text) | Token::Number(text) => {
            text.clone()
        }
        Token::Field(name) => format!(".{name}"),
        Token::Variable(name) => format!("${name}"),
        Token::Open(_) => "{{".to_owned(),
        Token::Space => " ".to_owned(),
    };
    error(&format!("unexpected {text:?} in command"))
}

pub(super) fn fields(nodes: &[Node], names: &mut Vec<String>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Action(pipeline) => pipeline_fields(pipeline, names),
            Node::If { test: it, then, otherwise }
            | Node::With { test: it, then, otherwise }
            | Node::Range { over: it, each: then, otherwise } => {
                pipeline_fields(it, names);
                fields(then, names);
                fields(otherwise, names);
            }
        }
    }
}

fn pipeline_fields(pipeline: &Pipeline, names: &mut Vec<String>) {
    for operand in pipeline.commands.iter().flatten() {
        match operand {
            Operand::Fields(path) => names.extend(path.first().cloned()),
            Operand::Group(group, _) => pipeline_fields(group, names),
            Operand::Variable(..) | Operand::Function(_) | Operand::Literal(_) => {}
        }
    }
}
