// The oracle of hack/dockerfile: BuildKit's own parser, lexer, checks and .dockerignore matcher over a corpus.
//
//	dockerfile-oracle generate DIR            writes the corpus
//	dockerfile-oracle compare DIR OURS LIST   reads what our crate made of it, prints agreements and disagreements,
//	                                          and fails on one that is not in the list
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

// BuildKit goes over maps where several answers are as good; ours is right if it is one of them.
const attempts = 40

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "generate":
		return generate(args[1])
	case len(args) == 4 && args[0] == "compare":
		return compare(args[1], args[2], args[3])
	default:
		return fmt.Errorf("usage: dockerfile-oracle generate DIR | compare DIR OURS LIST")
	}
}

// Our description of each case, by the case's file name.
func readOurs(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ours := map[string]string{}
	for _, part := range strings.Split(string(data), "\x00") {
		name, text, ok := strings.Cut(part, "\n")
		if ok {
			ours[name] = text
		}
	}
	return ours, nil
}

// The known disagreements: a case's name, a space, the reason.
func readList(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list := map[string]string{}
	for _, line := range strings.Split(string(data), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("%s: %q has no reason", path, name)
		}
		list[name] = reason
	}
	return list, nil
}

func compare(dir, oursPath, listPath string) error {
	ours, err := readOurs(oursPath)
	if err != nil {
		return err
	}
	list, err := readList(listPath)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	sort.Strings(files)
	agreed, listed, faults := 0, 0, 0
	for _, file := range files {
		name := filepath.Base(file)
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text, ok := ours[name]
		theirs, agrees := agreement(name, data, text)
		reason, known := list[name]
		delete(list, name)
		switch {
		case ok && agrees && known:
			fmt.Printf("%s agrees and is listed as a disagreement\n", name)
			faults++
		case ok && agrees:
			agreed++
		case ok && known:
			fmt.Printf("%s disagrees: %s\n", name, reason)
			listed++
		default:
			fmt.Printf("%s DISAGREES\n%s", name, difference(theirs, text))
			faults++
		}
	}
	for name := range list {
		fmt.Printf("%s is listed and not in the corpus\n", name)
		faults++
	}
	fmt.Printf("%d files: %d agree, %d disagree for a listed reason, %d faults\n", len(files), agreed, listed, faults)
	fmt.Printf("dockerfile: %d passed, %d failed\n", agreed, listed+faults)
	if faults > 0 || len(files) == 0 {
		return fmt.Errorf("the crate and BuildKit disagree")
	}
	return nil
}

// A suggestion, and a name in a circle, may be any of several: then each of our lines must be one of BuildKit's.
var arbitrary = regexp.MustCompile(`\(did you mean [^)]*\)|circular dependency detected on stage: \w*|failed to parse stage name .*`)

// Of several images whose names cannot be read BuildKit tells of one, as Go's scheduler has it; we tell of the first.
const unreadable = "failed to parse stage name"

func agreement(name string, data []byte, ours string) (string, bool) {
	theirs := describe(name, data)
	if theirs == ours {
		return theirs, true
	}
	if arbitrary.ReplaceAllString(theirs, "") != arbitrary.ReplaceAllString(ours, "") {
		return theirs, false
	}
	seen := map[string]bool{}
	for range attempts {
		for _, line := range strings.Split(describe(name, data), "\n") {
			seen[line] = true
		}
	}
	for _, line := range strings.Split(ours, "\n") {
		if !seen[line] && !strings.Contains(line, unreadable) {
			return theirs, false
		}
	}
	return theirs, true
}

// The lines that only one side has.
func difference(theirs, ours string) string {
	var out strings.Builder
	only := func(mark, text, other string) {
		lines := map[string]int{}
		for _, line := range strings.Split(other, "\n") {
			lines[line]++
		}
		for _, line := range strings.Split(text, "\n") {
			if lines[line]--; lines[line] < 0 {
				fmt.Fprintf(&out, "  %s %s\n", mark, line)
			}
		}
	}
	only("BuildKit:", theirs, ours)
	only("Cais:    ", ours, theirs)
	return out.String()
}
