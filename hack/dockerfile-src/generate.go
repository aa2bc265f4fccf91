package main

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Cases that were thought of: a line "=== name", then the file, which is a Dockerfile unless its name says more.
//
//go:embed written.txt
var written string

// What is known to differ is not changed into more that does.
//
//go:embed disagreements
var disagreements string

// The corpus is the same on every machine.
const seed = 20261126

const (
	generated = 900
	mutated   = 300
	wordFiles = 60
	ignores   = 120
	modeFiles = 20
	remotes   = 20
)

func generate(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	write := func(name, text string) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
	var cases []string
	for _, part := range strings.Split("\n"+written, "\n=== ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		if !strings.Contains(name, ".") {
			name += ".dockerfile"
			if !strings.Contains(disagreements, "\nwritten-"+name+" ") {
				cases = append(cases, text)
			}
		}
		if err := write("written-"+name, text+"\n"); err != nil {
			return err
		}
	}
	// A sequence for each kind, so that what is added to one leaves the others as they are.
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	for i := range generated {
		if err := write(fmt.Sprintf("generated-%03d.dockerfile", i), g.file()); err != nil {
			return err
		}
	}
	g = generator{rand.New(rand.NewPCG(seed, 2))}
	for i := range mutated {
		text := g.mutate(cases[g.IntN(len(cases))])
		if err := write(fmt.Sprintf("mutated-%03d.dockerfile", i), text); err != nil {
			return err
		}
	}
	g = generator{rand.New(rand.NewPCG(seed, 3))}
	for i := range wordFiles {
		if err := write(fmt.Sprintf("generated-%03d.words", i), g.lines(25, g.word)); err != nil {
			return err
		}
	}
	g = generator{rand.New(rand.NewPCG(seed, 5))}
	for i := range modeFiles {
		if err := write(fmt.Sprintf("generated-%03d.modes", i), g.lines(30, g.mode)); err != nil {
			return err
		}
	}
	g = generator{rand.New(rand.NewPCG(seed, 6))}
	for i := range remotes {
		if err := write(fmt.Sprintf("generated-%03d.sources", i), g.lines(30, g.source)); err != nil {
			return err
		}
	}
	g = generator{rand.New(rand.NewPCG(seed, 4))}
	for i := range ignores {
		text := g.lines(1+g.IntN(5), g.pattern) + "\n---\n" + g.lines(30, g.path)
		if err := write(fmt.Sprintf("generated-%03d.ignore", i), text); err != nil {
			return err
		}
	}
	return nil
}

type generator struct{ *rand.Rand }

func (g generator) of(options ...string) string { return options[g.IntN(len(options))] }

// One of the texts in `often` of ten cases, else nothing.
func (g generator) maybe(often int, options ...string) string {
	if g.IntN(10) < often {
		return g.of(options...)
	}
	return ""
}

func (g generator) lines(count int, line func() string) string {
	lines := make([]string, count)
	for i := range lines {
		lines[i] = line()
	}
	return strings.Join(lines, "\n")
}

func (g generator) file() string {
	var out strings.Builder
	out.WriteString(g.maybe(1, "# escape=`\n", "# syntax=docker/dockerfile:1\n", "# check=skip=JSONArgsRecommended\n", "# check=error=true\n", "# check=experimental=all\n", "# a comment\n"))
	for range g.IntN(3) {
		fmt.Fprintf(&out, "%s %s\n", g.keyword("ARG"), g.of("A=1", "B=${A}x", "C", "GIVEN=2", "A=3 D=4"))
	}
	for stage := range 1 + g.IntN(4) {
		out.WriteString(g.maybe(1, "# s0 is a stage\n", "# what\n", "\n"))
		base := g.or([]string{"alpine:$A", "s3", "$B"}, "alpine", "debian:1", "scratch", "env", "shell", "trigger", "workdir", "arm", "alpine:${A:-1}", "alpine:${C:-x}", "s0", "s1")
		platform := g.maybe(2, "--platform=$BUILDPLATFORM ", "--platform=$TARGETPLATFORM ", "--platform=linux/amd64 ", "--platform=linux/${X:-arm64} ")
		name := ""
		if g.IntN(3) > 0 {
			name = fmt.Sprintf(" %s %s%d", g.keyword("AS"), g.of("s", "s", "s", "S"), stage)
		}
		fmt.Fprintf(&out, "%s %s%s%s\n", g.keyword("FROM"), platform, base, name)
		for range g.IntN(9) {
			out.WriteString(g.maybe(1, "# check=skip=UndefinedVar\n", "# note\n", "\n", "  # note\n"))
			out.WriteString(g.instruction())
			out.WriteString("\n")
		}
	}
	return out.String()
}

func (g generator) keyword(word string) string {
	if g.IntN(12) == 0 {
		return g.of(strings.ToLower(word), strings.ToUpper(word[:1])+strings.ToLower(word[1:]))
	}
	return word
}

// A mistake in one of thirty places.
func (g generator) or(mistakes []string, right ...string) string {
	if g.IntN(30) == 0 {
		return g.of(mistakes...)
	}
	return g.of(right...)
}

func (g generator) instruction() string {
	switch g.IntN(19) {
	case 0, 1, 2:
		return g.run()
	case 3, 4:
		return g.keyword("COPY") + g.copyFlags("--from=s0", g.or([]string{"--from=1", "--from=9"}, "--from=debian"), "--parents", "--link") + g.paths()
	case 5:
		return g.keyword("ADD") + g.copyFlags("--link", "--unpack=true", "--keep-git-dir=false") + g.paths()
	case 6, 7:
		return g.keyword("ENV") + " " + g.pairs()
	case 8:
		return g.keyword("LABEL") + " " + g.pairs()
	case 9, 10:
		return g.keyword("ARG") + " " + g.of("A", "B=$A", "C D=${C:-1}", "GIVEN", "X=\"a b\"", "API_TOKEN", "TARGETARCH", "E=${A%1}")
	case 11:
		return g.keyword("CMD") + " " + g.command()
	case 12:
		return g.keyword("ENTRYPOINT") + " " + g.command()
	case 13:
		return g.keyword("WORKDIR") + " " + g.of("/a", "b", "/$A/c", "..", "/", "\"d e\"", "${A:+/x}/y")
	case 14:
		return g.keyword("USER") + " " + g.of("root", "$A", "1:2", "${U:-x}")
	case 15:
		return g.keyword("EXPOSE") + " " + g.or([]string{"$A", "90 80 /x", "2-1", "80/ftp"}, "80", "80/tcp 81/udp", "82-84", "85/UDP", "1:2", "${P:-9}", "[::1]:1:2")
	case 16:
		return g.keyword("HEALTHCHECK") + g.maybe(4, " --interval=5s", " --timeout=1m --retries=2", " --start-period=1.5h", " --start-interval=250ms", " --interval=0") + " " + g.of("NONE", "CMD x", "CMD [\"a\"]", "cmd y $z")
	case 17:
		return g.keyword("ONBUILD") + " " + g.of("RUN make", "COPY a b", "ENV o=1", "USER $A", "WORKDIR w", "COPY --from=s0 a b", "RUN <<EOF\nx\nEOF")
	default:
		return g.of("VOLUME /a", "VOLUME [\"/a\", \"/b\"]", g.or([]string{"VOLUME $NONE /c", "STOPSIGNAL $A"}, "VOLUME $PATH /c"), "STOPSIGNAL TERM", "STOPSIGNAL ${A:-9}", "SHELL [\"/bin/bash\", \"-c\"]", "MAINTAINER me <a@b>")
	}
}

func (g generator) run() string {
	flags := ""
	for range g.IntN(3) {
		flags += " " + g.of("--mount=type=cache,target=/c", "--mount=target=/x,from=s0", "--mount=type=secret,id=a", g.or([]string{"--mount=type=tmpfs,target=$T,size=1m", "--mount=type=secret,from=s0"}, "--mount=type=tmpfs,target=/t$T,size=1m"), "--mount=type=ssh", "--network=none", "--security=sandbox", "--mount=type=bind,source=a,target=/b,rw")
	}
	if g.IntN(4) == 0 {
		name := g.of("EOF", "A", "'B'", "\"C D\"")
		end := strings.Trim(name, `'"`)
		tabs := g.maybe(3, "-")
		body := g.of("", "echo $A\n", "#!/bin/sh\nx\n", "\ttab\n", "a \\\nb\n", "# c\n\n")
		return g.keyword("RUN") + flags + " " + g.maybe(3, "cat ") + "<<" + tabs + name + g.maybe(3, " && x", " > /f") + "\n" + body + end
	}
	return g.keyword("RUN") + flags + " " + g.command()
}

func (g generator) command() string {
	return g.of("echo $A", "a && b", `["a", "b c"]`, `["a"`, "x \\\n  y", "x \\\n\n  y", "x \\\n# c\n  y", `echo "q" 'r' \s`, "[ -f a ]", `["$A"]`, "x | y > z")
}

func (g generator) copyFlags(more ...string) string {
	flags := ""
	for range g.IntN(3) {
		flags += " " + g.of(append(more, "--chown=1:2", "--chmod=644", "--exclude=*.x", "--chown=$A")...)
	}
	return flags
}

func (g generator) paths() string {
	return " " + g.of("a b", "a b c/", "$A /b", `["a b", "c"]`, "a* ./", "<<EOF /x\n$A 'b'\nEOF", "<<-'E' <<F /y/\n\ta\n\tE\n${A:-z}\nF", "a \\\n  b", g.or([]string{"./"}, "\"a b\" c"))
}

func (g generator) pairs() string {
	return g.of("a=1", "a=$A b=\"x $a\"", "a b c", "PATH=$PATH:/x", "x='$A' y=\\$A", "k=${A:-1} \\\n  l=${B:+2}", "TOKEN=x", "A=${A}y", "u=$UNDEFINED", "e=", "\"k l\"=m", "n=${A/1/2}", g.or([]string{"v=${NONE?no}", "w"}, "v=${PATH?no}"))
}

// A written file with a few characters changed.
func (g generator) mutate(text string) string {
	for range 1 + g.IntN(3) {
		if text == "" {
			return text
		}
		at := g.IntN(len(text))
		// Whole characters only: what is no UTF-8 is known to differ.
		for at > 0 && text[at]&0xc0 == 0x80 {
			at--
		}
		end := at + 1
		for end < len(text) && text[end]&0xc0 == 0x80 {
			end++
		}
		with := g.of("\\", "\n", "\"", "'", "$", "{", "}", "[", "]", " ", "\t", "#", "<", "<<", "=", "-", ":", ",", "/", "\r\n", "`", "a", "A", "0", "$X", "${X:-", "\\\n")
		switch g.IntN(3) {
		case 0:
			text = text[:at] + with + text[end:]
		case 1:
			text = text[:at] + with + text[at:]
		default:
			text = text[:at] + text[end:]
		}
	}
	return text
}

// A word for the lexer: pieces that fit together or do not.
func (g generator) word() string {
	word := ""
	for range 1 + g.IntN(5) {
		word += g.piece(0)
	}
	return word
}

func (g generator) piece(depth int) string {
	name := g.of("NAME", "EMPTY", "FILE", "TWO", "PATH", "NOPE", "STAR", "N")
	inner := func() string {
		if depth > 2 {
			return "x"
		}
		return g.piece(depth + 1)
	}
	switch g.IntN(16) {
	case 0, 1:
		return "$" + name
	case 2, 3:
		return "${" + name + "}"
	case 4, 5, 6:
		return "${" + name + g.of("-", ":-", "+", ":+", "?", ":?") + inner() + "}"
	case 7:
		return "${" + name + g.of("#", "##", "%", "%%") + g.shellPattern() + "}"
	case 8:
		return "${" + name + g.of("/", "//") + g.shellPattern() + "/" + g.of("", "-", "$NAME", "a b", "\\/", "$1", "${N}") + "}"
	case 9:
		return "\"" + inner() + g.of("", " ", "'", "\\\"", "\\$", "\\x") + "\""
	case 10:
		return "'" + g.of("$NAME", "a b", "\\", "\"") + "'"
	case 11:
		return "\\" + g.of("$", "\\", "\"", "n", " ", "'")
	case 12:
		return g.of(" ", "\t", "  ", "a b", "é", "日本")
	case 13:
		return g.of("<", "<<", "<<EOF", "<<-", "3<<X")
	case 14:
		return g.of("$", "$$", "$1", "$@", "$-x", "${", "${}", "${NAME", "}", "${:x}", "${NAME:x}", "${NAME:#x}", "${{N}}", "${NAME!}", "${#}", "\"", "'", "`", "`$NAME", "${NAME/}", "$é", "${1}", "$12a")
	default:
		return g.of("plain", "a.b", "x=y", "/p/q")
	}
}

func (g generator) shellPattern() string {
	pattern := ""
	for range 1 + g.IntN(3) {
		pattern += g.of("*", "?", "a", "w", ".", "/", "[", "\\*", "\\?", "\\\\", "$N", "bin", "\\}", "\\/", "é", "+", "^", "$EMPTY")
	}
	return strings.ReplaceAll(pattern, "/", g.of("\\/", "x"))
}

func (g generator) pattern() string {
	pattern := g.maybe(3, "!")
	for i := range 1 + g.IntN(3) {
		if i > 0 {
			pattern += "/"
		}
		pattern += g.of("a", "b", "c.md", "*", "**", "*.md", "?", "[ab]", "[^a]", "a*", "**b", "b**", "..", ".", "a\\*", "x+y", "", "(c)", "[a-c]*", "$d", "a^b")
	}
	return g.maybe(1, "# ", " ", "/") + pattern + g.maybe(1, " ", "/")
}

func (g generator) path() string {
	path := ""
	for i := range 1 + g.IntN(4) {
		if i > 0 {
			path += "/"
		}
		path += g.of("a", "b", "ab", "c.md", "a.md", "x+y", "(c)", "$d", "a*", "bb")
	}
	return path
}

func (g generator) mode() string {
	if g.IntN(8) == 0 {
		return g.of("0", "755", "0644", "7777", "4755", "1777", "8", "10000", "07778", "u", "", "+", "=", "u=q", "a=rwx,", "-rwx")
	}
	clauses := make([]string, 1+g.IntN(3))
	for i := range clauses {
		for range g.IntN(3) {
			clauses[i] += g.of("u", "g", "o", "a", "ug", "go")
		}
		for range 1 + g.IntN(2) {
			clauses[i] += g.of("+", "-", "=")
			for range g.IntN(4) {
				clauses[i] += g.of("r", "w", "x", "X", "s", "t", "u", "g", "o")
			}
		}
	}
	return strings.Join(clauses, ",")
}

func (g generator) source() string {
	text := g.of("https://x.io/a.git", "HTTPS://x.io/a.git", "http://x.io/b", "https://me:pw@x.io:8080/c.git", "git@x.io:d/e.git", "me@x.io:f", "ssh://git@x.io/g", "git://x.io/h",
		"./i.git", "../j", "k/l", "ftp://x.io/m.git", "a@b", "n@x.io", "https://x.io/o%2egit", "https://x.io:p/q.git", "https://[::1]:80/r.git", "c:/s", "https://x.io/t u.git", "https://x.io/%zz.git", "a b@x.io:v")
	if g.IntN(2) == 0 {
		text += "?" + g.of("ref=a", "tag=v1", "branch=b", "subdir=s/../../t", "commit=abc", "checksum=d", "submodules=false", "submodules", "keep-git-dir=1", "keep-git-dir=x", "mtime=commit", "mtime=x", "fetch-by-commit", "x=y", "ref", "ref=a+b%20c", "tag=refs/tags/w&ref=refs/tags/w", "tag=a&subdir=c")
	}
	if g.IntN(2) == 0 {
		text += "#" + g.of("main", "a:b", ":c/../../d", "v1:", "", "a%20b", "x:y:z", "%", "q?r=s")
	}
	return text
}
