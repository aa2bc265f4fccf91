package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	mode "github.com/tonistiigi/dchapes-mode"
)

// What a case of the corpus means, in lines that our crate's example writes too.
func describe(name string, data []byte) string {
	var out strings.Builder
	switch {
	case strings.HasSuffix(name, ".words"):
		describeWords(&out, data)
	case strings.HasSuffix(name, ".sources"):
		describeSources(&out, data)
	case strings.HasSuffix(name, ".modes"):
		describeModes(&out, data)
	case strings.HasSuffix(name, ".ignore"):
		describeIgnore(&out, data)
	default:
		describeFile(&out, data)
	}
	return out.String()
}

// The variables that words are expanded with; our example has the same.
var variables = []string{"NAME=web", "EMPTY=", "FILE=archive.tar.gz", "TWO=a b", "PATH=/usr/bin:/bin", "STAR=*", "N=12"}

func describeWords(out *strings.Builder, data []byte) {
	env := shell.EnvsFromSlice(variables)
	for _, word := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		for _, escape := range []rune{'\\', '`'} {
			lex := shell.NewLex(escape)
			result, err := lex.ProcessWordWithMatches(word, env)
			if err != nil {
				fmt.Fprintf(out, "%q error %q\n", word, err.Error())
				continue
			}
			fmt.Fprintf(out, "%q text %q used %q unset %q\n", word, result.Result, keys(result.Matched), keys(result.Unmatched))
			// A substitution with a modifier makes BuildKit forget the words before it. One file of the corpus shows
			// it, and is listed.
			if !strings.Contains(word, "${") {
				fmt.Fprintf(out, "%q words %q\n", word, list(result.Words))
			}
		}
		heredoc := shell.NewLex('\\')
		heredoc.SkipProcessQuotes = true
		if result, err := heredoc.ProcessWordWithMatches(word, env); err == nil {
			fmt.Fprintf(out, "%q heredoc %q\n", word, result.Result)
		}
		display := shell.NewLex('\\')
		display.RawQuotes = true
		display.SkipUnsetEnv = true
		if result, err := display.ProcessWordWithMatches(word, env); err == nil {
			fmt.Fprintf(out, "%q display %q\n", word, result.Result)
		}
	}
}

func keys(set map[string]struct{}) []string {
	names := []string{}
	for name := range set {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Which sources of ADD are repositories, and what of them.
func describeSources(out *strings.Builder, data []byte) {
	for _, source := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		ref, isGit, err := dfgitutil.ParseGitRef(source)
		switch {
		case err != nil && isGit:
			fmt.Fprintf(out, "%q error %q\n", source, err.Error())
		case err == nil && !ref.IndistinguishableFromLocal:
			directory := strings.TrimPrefix(path.Join("/", ref.SubDir), "/")
			fmt.Fprintf(out, "%q git %q %q %q checksum %q keep-git-dir %s submodules %s mtime %q fetch-by-commit %v\n",
				source, ref.Remote, ref.Ref, directory, ref.Checksum, optional(ref.KeepGitDir), optional(ref.Submodules), ref.MTime, ref.FetchByCommit)
		case strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://"):
			fmt.Fprintf(out, "%q http\n", source)
		default:
			fmt.Fprintf(out, "%q path\n", source)
		}
	}
}

// What each mode makes of some files and directories.
func describeModes(out *strings.Builder, data []byte) {
	for _, text := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		set, err := mode.Parse(text)
		if err != nil {
			fmt.Fprintf(out, "%q error\n", text)
			continue
		}
		for _, before := range []os.FileMode{0, 0o644, 0o755, 0o741, os.ModeSetuid | os.ModeSticky | 0o4, os.ModeDir | 0o600} {
			after := set.Apply(before)
			bits := after.Perm()
			for flag, bit := range map[os.FileMode]os.FileMode{os.ModeSetuid: 0o4000, os.ModeSetgid: 0o2000, os.ModeSticky: 0o1000} {
				if after&flag != 0 {
					bits |= bit
				}
			}
			fmt.Fprintf(out, "%q %v %o\n", text, before.IsDir(), uint32(bits))
		}
	}
}

// The file's patterns, a line of dashes, and the paths that are asked for.
func describeIgnore(out *strings.Builder, data []byte) {
	file, paths, _ := strings.Cut(string(data), "\n---\n")
	patterns, err := ignorefile.ReadAll(strings.NewReader(file))
	if err != nil {
		fmt.Fprintf(out, "error %q\n", err.Error())
		return
	}
	fmt.Fprintf(out, "patterns %q\n", patterns)
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		fmt.Fprintf(out, "error %q\n", err.Error())
		return
	}
	fmt.Fprintf(out, "exclusions %v\n", matcher.Exclusions())
	for _, path := range strings.Fields(paths) {
		ignored, err := matcher.MatchesOrParentMatches(path)
		if err != nil {
			fmt.Fprintf(out, "error %q\n", err.Error())
			return
		}
		fmt.Fprintf(out, "%q %v\n", path, ignored)
	}
}

func describeFile(out *strings.Builder, data []byte) {
	describeSyntax(out, data)
	describeChecks(out, data, "")
	// A stage that many files have: what it does not need is neither checked nor built.
	out.WriteString("target\n")
	describeChecks(out, data, "S1")
}

func describeSyntax(out *strings.Builder, data []byte) {
	result, err := parser.Parse(bytes.NewReader(data))
	if err != nil {
		fmt.Fprintf(out, "error %q%s\n", err.Error(), place(err))
		return
	}
	stages, args, err := instructions.Parse(result.AST, linter.New(&linter.Config{}))
	if err != nil {
		fmt.Fprintf(out, "error %q%s\n", err.Error(), place(err))
		return
	}
	if len(stages) == 0 {
		// The checks refuse it.
		return
	}
	syntax, _, _, _ := parser.DetectSyntax(data)
	check, _, _, _ := parser.ParseDirective("check", data)
	fmt.Fprintf(out, "syntax %q escape %q check %q\n", syntax, string(result.EscapeToken), check)
	for _, arg := range args {
		fmt.Fprintf(out, "global%s\n", arguments(arg.Args))
	}
	for _, stage := range stages {
		fmt.Fprintf(out, "stage %q base %q platform %q keyword %q code %q lines %s comments %q about %q\n",
			stage.Name, stage.BaseName, stage.Platform, stage.OrigCmd, stage.SourceCode, lines(stage.Location), list(stage.Comments), stage.DocComment)
		for _, command := range stage.Commands {
			fmt.Fprintf(out, "%q lines %s comments %q code %q\n  %s\n",
				command.Name(), lines(command.Location()), list(command.Comments()), fmt.Sprint(command), fields(command))
		}
	}
}

func list(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

func lines(ranges []parser.Range) string {
	if len(ranges) == 0 {
		return "0-0"
	}
	return fmt.Sprintf("%d-%d", ranges[0].Start.Line, ranges[len(ranges)-1].End.Line)
}

// BuildKit points one line too high for directives and lines that are too long, and at the end of a file without
// instructions; we do not.
var misplaced = []string{"only one ", "invalid escape token", "file with no instructions", "dockerfile line greater"}

func place(err error) string {
	for _, start := range misplaced {
		if strings.HasPrefix(err.Error(), start) {
			return ""
		}
	}
	var located *parser.LocationError
	if !errors.As(err, &located) || len(located.Locations) == 0 {
		return " at 0-0"
	}
	return " at " + lines(located.Locations[0])
}

func arguments(args []instructions.KeyValuePairOptional) string {
	var out strings.Builder
	for _, arg := range args {
		fmt.Fprintf(&out, " %q", arg.Key)
		if arg.Value != nil {
			fmt.Fprintf(&out, "=%q", *arg.Value)
		}
		if arg.DocComment != "" {
			fmt.Fprintf(&out, " about %q", arg.DocComment)
		}
	}
	return out.String()
}

func pairs(pairs instructions.KeyValuePairs) string {
	var out strings.Builder
	for _, pair := range pairs {
		fmt.Fprintf(&out, " %q %q %v", pair.Key, pair.Value, pair.NoDelim)
	}
	return out.String()
}

func sources(sources instructions.SourcesAndDest) string {
	var out strings.Builder
	fmt.Fprintf(&out, " paths %q to %q", list(sources.SourcePaths), sources.DestPath)
	for _, file := range sources.SourceContents {
		fmt.Fprintf(&out, " file %q %q %v", file.Path, file.Data, file.Expand)
	}
	return out.String()
}

func optional(value *bool) string {
	if value == nil {
		return "unset"
	}
	return fmt.Sprint(*value)
}

func fields(command instructions.Command) string {
	switch c := command.(type) {
	case *instructions.AddCommand:
		return fmt.Sprintf("add%s chown %q chmod %q link %v exclude %q checksum %q keep-git-dir %s unpack %s",
			sources(c.SourcesAndDest), c.Chown, c.Chmod, c.Link, list(c.ExcludePatterns), c.Checksum, optional(c.KeepGitDir), optional(c.Unpack))
	case *instructions.ArgCommand:
		return "arg" + arguments(c.Args)
	case *instructions.CmdCommand:
		return fmt.Sprintf("cmd %q shell %v", list(c.CmdLine), c.PrependShell)
	case *instructions.CopyCommand:
		return fmt.Sprintf("copy%s from %q chown %q chmod %q link %v parents %v exclude %q",
			sources(c.SourcesAndDest), c.From, c.Chown, c.Chmod, c.Link, c.Parents, list(c.ExcludePatterns))
	case *instructions.EntrypointCommand:
		return fmt.Sprintf("entrypoint %q shell %v", list(c.CmdLine), c.PrependShell)
	case *instructions.EnvCommand:
		return "env" + pairs(c.Env)
	case *instructions.ExposeCommand:
		return fmt.Sprintf("expose %q", c.Ports)
	case *instructions.HealthCheckCommand:
		h := c.Health
		return fmt.Sprintf("healthcheck %q %d %d %d %d %d", h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries)
	case *instructions.LabelCommand:
		return "label" + pairs(c.Labels)
	case *instructions.MaintainerCommand:
		return fmt.Sprintf("maintainer %q", c.Maintainer)
	case *instructions.OnbuildCommand:
		return fmt.Sprintf("onbuild %q", c.Expression)
	case *instructions.RunCommand:
		return runFields(c)
	case *instructions.ShellCommand:
		return fmt.Sprintf("shell %q", c.Shell)
	case *instructions.StopSignalCommand:
		return fmt.Sprintf("stopsignal %q", c.Signal)
	case *instructions.UserCommand:
		return fmt.Sprintf("user %q", c.User)
	case *instructions.VolumeCommand:
		return fmt.Sprintf("volume %q", c.Volumes)
	case *instructions.WorkdirCommand:
		return fmt.Sprintf("workdir %q", c.Path)
	}
	return fmt.Sprintf("%T", command)
}

func runFields(c *instructions.RunCommand) string {
	var out strings.Builder
	fmt.Fprintf(&out, "run %q shell %v network %s security %s", list(c.CmdLine), c.PrependShell, instructions.GetNetwork(c), instructions.GetSecurity(c))
	for _, file := range c.Files {
		fmt.Fprintf(&out, " heredoc %q %q %v", file.Name, file.Data, file.Chomp)
	}
	for _, device := range instructions.GetDevices(c) {
		fmt.Fprintf(&out, " device %q %v", device.Name, device.Required)
	}
	for _, mount := range instructions.GetMounts(c) {
		fmt.Fprintf(&out, " from %q", mount.From)
	}
	err := c.Expand(func(word string) (string, error) { return word, nil })
	if err != nil {
		fmt.Fprintf(&out, " mounts %q", err.Error())
		return out.String()
	}
	for _, m := range instructions.GetMounts(c) {
		env := "unset"
		if m.Env != nil {
			env = fmt.Sprintf("%q", *m.Env)
		}
		fmt.Fprintf(&out, " mount %s %q %q %q readonly %v size %d id %q sharing %q required %v env %s mode %s uid %s gid %s",
			m.Type, m.From, m.Source, m.Target, m.ReadOnly, m.SizeLimit, m.CacheID, string(m.CacheSharing), m.Required, env, number(m.Mode), number(m.UID), number(m.GID))
	}
	return out.String()
}

func number(value *uint64) string {
	if value == nil {
		return "unset"
	}
	return fmt.Sprint(*value)
}

// Images are not pulled: what one has follows from its name, as in our example.
type images struct{}

func (images) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	config := map[string]any{}
	architecture := "amd64"
	if strings.Contains(ref, "arm") {
		architecture = "arm64"
	}
	if strings.Contains(ref, "env") {
		config["Env"] = []string{"PATH=/base", "BASE=1"}
	}
	if strings.Contains(ref, "shell") {
		config["Shell"] = []string{"/bin/bash", "-c"}
	}
	if strings.Contains(ref, "workdir") {
		config["WorkingDir"] = "/base"
	}
	if strings.Contains(ref, "trigger") {
		config["OnBuild"] = []string{"ENV TRIGGER=$PATH", "RUN make $UNKNOWN"}
	}
	data, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": architecture, "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest.FromString(ref).String()}},
	})
	return ref, "", data, err
}

func options(data []byte, target string) dockerfile2llb.ConvertOpt {
	caps := pb.Caps.CapSet(pb.Caps.All())
	opt := dockerfile2llb.ConvertOpt{
		MetaResolver:   images{},
		LLBCaps:        &caps,
		TargetPlatform: &ocispecs.Platform{OS: "linux", Architecture: "amd64"},
		SourceMap:      llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", data),
	}
	opt.SourceMap.Definition = &llb.Definition{}
	opt.BuildPlatforms = []ocispecs.Platform{{OS: "linux", Architecture: "amd64"}}
	opt.BuildArgs = map[string]string{"GIVEN": "given", "HTTP_PROXY": "http://proxy"}
	opt.Target = target
	return opt
}

func describeChecks(out *strings.Builder, data []byte, target string) {
	result, err := dockerfile2llb.DockerfileLint(context.Background(), data, options(data, target))
	if err != nil {
		fmt.Fprintf(out, "check %q\n", err.Error())
		return
	}
	found := []string{}
	for _, w := range result.Warnings {
		first, last := int32(0), int32(0)
		if ranges := w.Location.Ranges; len(ranges) > 0 {
			first, last = ranges[0].Start.Line, ranges[len(ranges)-1].End.Line
		}
		found = append(found, fmt.Sprintf("%06d warning %s %q %q %d-%d %q\n", first, w.RuleName, w.Description, w.URL, first, last, w.Detail))
	}
	sort.Strings(found)
	for _, line := range found {
		out.WriteString(line)
	}
	if result.Error != nil {
		message := result.Error.Message
		if names, ok := strings.CutPrefix(message, "lint violation found for rules: "); ok {
			rules := strings.Split(names, ", ")
			sort.Strings(rules)
			message = "lint violation found for rules: " + strings.Join(rules, ", ")
		}
		fmt.Fprintf(out, "refused %q\n", message)
		return
	}
	image, err := dockerfile2llb.Dockerfile2LLB(context.Background(), data, options(data, target))
	if err != nil {
		fmt.Fprintf(out, "build %q\n", err.Error())
		return
	}
	for _, entry := range image.Image.History {
		fmt.Fprintf(out, "history %q %v\n", entry.CreatedBy, !entry.EmptyLayer)
	}
	fmt.Fprintf(out, "env %q\n", image.Image.Config.Env)
}
