//go:build tools

// Package tools pins the programs that tests use. The imports keep in go.sum what `go test -c` of
// critest needs: a package of test files only cannot be named by a tool directive.
package tools

import (
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/framework"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
