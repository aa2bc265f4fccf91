use super::{Missing, Template};
use crate::json::Value;

const INSPECTED: &str = r#"{"Id":"abc","Name":"/web","State":{"Running":true,"Pid":7,"ExitCode":0,"Status":"running"},
 "Config":{"Image":"busybox","Labels":{"b":"2","a":"1"},"Env":["A=1","B=2"],"Entrypoint":null,"Volumes":null},
 "Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"9/udp":null},"Ratio":1.5,"Size":123456789012}"#;

fn shown(template: &str) -> Result<String, String> {
    let value = Value::parse(INSPECTED.as_bytes()).unwrap();
    Template::parse(template)?.execute(&value, Missing::Key)
}

#[test]
fn templates_say_what_gos_say() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{.Name}} {{ .State.Pid }}", "/web 7"),
        ("{{.State.Running}}", "true"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a:1 b:2]"),
        ("{{.Config.Entrypoint}} {{.Config.Volumes}} {{.State.Health}}", "[] map[] <nil>"),
        ("{{.Ratio}} {{.Size}}", "1.5 123456789012"),
        ("{{json .Config.Labels}}", r#"{"b":"2","a":"1"}"#),
        ("{{json .Config.Entrypoint}} {{json .Name}}", r#"null "/web""#),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.ExitCode}}bad{{else if eq .Name \"/web\"}}web{{else}}other{{end}}", "web"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{range .Config.Env}}<{{.}}>{{end}}", "<A=1><B=2>"),
        ("{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}{{$v}} {{end}}", "a1 b2 "),
        ("{{range .Config.Volumes}}x{{else}}nothing{{end}}", "nothing"),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        ("{{index .Ports \"80/tcp\" 0 \"HostPort\"}}", "8080"),
        ("{{index .Config.Labels \"none\"}}", "<no value>"),
        ("{{with .State}}{{.Pid}}{{$.Name}}{{end}}", "7/web"),
        ("{{with .Config.Volumes}}x{{else}}none{{end}}", "none"),
        ("{{len .Config.Env}} {{len .Name}}", "2 4"),
        (
            "{{join .Config.Env \",\"}} {{upper .Name}} {{lower \"AB\"}} {{title \"ab cd\"}}",
            "A=1,B=2 /WEB ab Ab Cd",
        ),
        ("{{.Name | printf \"%s-%d\" \"x\" | json}}", "\"x-%!d(string=/web)\""),
        (
            "{{printf \"%-6s|%6s|%03d|%q|%v|%5.1f%%\" .Name .Id .State.Pid .Id .State.Running .Ratio}}",
            "/web  |   abc|007|\"abc\"|true|  1.5%",
        ),
        ("{{truncate .Config.Image 4}} {{slice .Config.Image 1 3}}", "busy us"),
        ("{{split .Config.Image \"y\" | json}} {{pad .Id 1 2}}|", r#"["bus","box"]  abc  |"#),
        ("{{println .Name 1}}", "/web 1\n"),
        ("{{print .Name 1 2 \"x\"}}", "/web1 2x"),
        ("{{and .State.Running (not .State.ExitCode)}} {{or .State.ExitCode .Name}}", "true /web"),
        (
            "{{ne .State.Pid 7}} {{gt .State.Pid 6}} {{le .State.Pid 7}} {{lt 1 2}} {{ge 1 2}}",
            "false true true true false",
        ),
        ("{{eq .Name \"a\" \"/web\"}}", "true"),
        ("a {{- .Name -}} b", "a/webb"),
        ("a {{/* a word */}} b", "a  b"),
        ("{{$x := .Name}}{{$x}}{{$x = .Id}}{{$x}}", "/webabc"),
        ("{{`raw\\n`}}{{\"a\\tb\"}}", "raw\\na\tb"),
    ] {
        assert_eq!(shown(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn errors_are_gos() {
    for (template, expected) in [
        ("{{foo}}", "template: :1: function \"foo\" not defined"),
        ("{{.Foo}}", "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\""),
        (
            "{{.State.Foo}}",
            "template: :1:2: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"",
        ),
        ("{{if .Id}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{.Id", "template: :1: unclosed action"),
        ("{{}}", "template: :1: missing value for command"),
    ] {
        assert_eq!(shown(template).unwrap_err(), expected, "{template}");
    }
    let row = Template::parse("{{.ID}} {{.Foo}}").unwrap();
    let value = Value::parse(br#"{"ID":"x"}"#).unwrap();
    assert_eq!(
        row.execute(&value, Missing::Field("*formatter.ContainerContext")).unwrap_err(),
        "template: :1:10: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
    );
    assert_eq!(row.fields(), ["ID", "Foo"]);
}
