// Package integrations holds nothing but the test of its layers.
package integrations_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/smilefactory/integrations/"

// layer is a floor of docs/design.md, "Layers".
type layer string

const (
	faults     layer = "fault"
	secrets    layer = "secret"
	mechanisms layer = "mechanism"
	doubles    layer = "test double" // fake and suite of a mechanism
	domains    layer = "domain"
	suites     layer = "suite"     // fake and conformance suite of its domain
	shared     layer = "shared"    // what the adapters of its domain share
	wires      layer = "wire"      // what the adapters of all domains share
	adapters   layer = "adapter"   // one provider of its domain
	databases  layer = "database"  // what the stores of all domains share
	stores     layer = "store"     // a domain's state in SQL
	simulators layer = "simulator" // the far side of the wire
	rigs       layer = "test rig"  // what tests share
	examples   layer = "example"
)

// below says what of this module a layer may import. What lies in the folder of
// a domain may import that domain alone.
var below = map[layer][]layer{
	faults:     {},
	secrets:    {},
	mechanisms: {mechanisms, faults},
	doubles:    {mechanisms, faults},
	domains:    {mechanisms, faults, secrets},
	suites:     {domains, faults},
	wires:      {faults, secrets},
	shared:     {wires, domains, faults, secrets},
	adapters:   {wires, shared, domains, faults, secrets},
	databases:  {faults},
	stores:     {databases, domains, faults},
	simulators: {simulators},
	rigs:       {rigs, simulators, databases, suites, domains, faults},
	examples:   {simulators, stores, adapters, suites, domains, mechanisms, secrets, faults},
}

// packages has a row for each package: its layer, and the modules that it may
// compile beside those of the packages that it imports.
var packages = map[string]struct {
	layer   layer
	vendors []string
}{
	"fault":                        {faults, nil},
	"secret":                       {secrets, nil},
	"internal/crash":               {rigs, nil},
	"internal/docstest":            {rigs, nil},
	"internal/matrix":              {rigs, nil},
	"internal/mutants":             {rigs, nil},
	"payment":                      {domains, nil},
	"payment/stripe":               {adapters, []string{"github.com/stripe/stripe-go/v76"}},
	"payment/paypal":               {adapters, []string{"golang.org/x/oauth2"}},
	"payment/paymentsql":           {stores, nil},
	"payment/paymenttest":          {suites, nil},
	"queue":                        {mechanisms, nil},
	"queue/queuetest":              {doubles, nil},
	"queue/internal/pgfault":       {mechanisms, pgx},
	"queue/postgres":               {mechanisms, slices.Concat(pgx, goose)},
	"queue/river":                  {mechanisms, slices.Concat(pgx, goose, rivers)},
	"queue/sqlite":                 {mechanisms, sqlite},
	"resilience":                   {mechanisms, []string{"github.com/sony/gobreaker/v2", "github.com/cenkalti/backoff/v4", "golang.org/x/time", lru}},
	"resilience/internal/limit":    {mechanisms, []string{"golang.org/x/time"}},
	"resilience/internal/watchdog": {mechanisms, nil},
	"resilience/internal/window":   {mechanisms, nil},
	"resilience/cache":             {mechanisms, []string{"github.com/maypok86/otter/v2"}},
	"resilience/resiliencetest":    {doubles, nil},
	"resilience/resiliencehttp":    {mechanisms, []string{lru}},
	"resilience/resilienceredis": {mechanisms, []string{
		"github.com/redis/go-redis/v9", "github.com/cespare/xxhash/v2", "go.uber.org/atomic", "golang.org/x/sys",
	}},
	"email":                 {domains, []string{"golang.org/x/net", "golang.org/x/text"}},
	"email/emailsql":        {stores, nil},
	"email/emailtest":       {suites, nil},
	"email/file":            {adapters, []string{gomail, gomailNTLM}},
	"email/internal/limits": {shared, nil},
	"email/internal/mime":   {shared, []string{gomail, gomailNTLM}},
	"email/internal/redact": {shared, nil},
	"email/postmark":        {adapters, nil},
	"email/resend":          {adapters, nil},
	"email/sendgrid":        {adapters, []string{"github.com/sendgrid/sendgrid-go", "github.com/sendgrid/rest"}},
	"email/ses":             {adapters, []string{"github.com/aws/aws-sdk-go-v2", "github.com/aws/smithy-go"}},
	"email/smtp":            {adapters, []string{gomail, gomailNTLM}},
	"internal/transport":    {wires, nil},
	"internal/webhook":      {mechanisms, nil},
	"internal/sqldb":        {databases, goose},
	"internal/sqldbtest":    {rigs, slices.Concat(pgx, sqlite)},
	"internal/sim":          {simulators, nil},
	"internal/sim/paypal":   {simulators, nil},
	"internal/sim/postmark": {simulators, nil},
	"internal/sim/resend":   {simulators, nil},
	"internal/sim/sendgrid": {simulators, nil},
	"internal/sim/ses":      {simulators, nil},
	"internal/sim/smtp":     {simulators, nil},
	"internal/sim/stripe":   {simulators, nil},
	"internal/servertest":   {rigs, nil},
	"internal/simtest":      {rigs, nil},
	"examples/quickstart":   {examples, nil},
	"examples/checkout":     {examples, sqlite},
}

const (
	lru        = "github.com/hashicorp/golang-lru/v2"
	gomail     = "github.com/wneessen/go-mail"
	gomailNTLM = "golang.org/x/crypto/md4"
)

// Modules with those that they compile.
var (
	goose  = []string{"github.com/pressly/goose/v3", "github.com/mfridman/interpolate", "github.com/sethvargo/go-retry", "go.uber.org/multierr", "golang.org/x/sync"}
	pgx    = []string{"github.com/jackc", "golang.org/x/sync", "golang.org/x/text"}
	rivers = []string{"github.com/riverqueue/river", "github.com/tidwall"}
	sqlite = []string{
		"modernc.org/sqlite", "modernc.org/libc", "modernc.org/mathutil", "modernc.org/memory", "golang.org/x/sys",
		"github.com/dustin/go-humanize", "github.com/google/uuid", "github.com/remyoudompheng/bigfft",
	}
)

// forTests are the layers that may compile what only tests need.
var forTests = []layer{doubles, suites, simulators, rigs, examples}

func TestLayers(t *testing.T) {
	all := list(t)
	t.Run("every package has a layer", func(t *testing.T) { everyPackageHasALayer(t, all) })
	for name, row := range packages {
		p := all[module+name]
		t.Run(name+" imports only downward", func(t *testing.T) { importsDownward(t, name, row.layer, p) })
		t.Run(name+" compiles only its own vendors", func(t *testing.T) { compilesItsVendors(t, p, all) })
		if !slices.Contains(forTests, row.layer) {
			t.Run(name+" compiles nothing of tests", func(t *testing.T) { compilesNoTests(t, p) })
		}
	}
}

// listed is what "go list" says of a package, its tests left out.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string // Imports, and theirs
	Standard   bool
	Module     struct{ Path string }
}

// list is every package of the module and all that they compile, by import path.
func list(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,Deps,Standard,Module", "./...")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all := map[string]listed{}
	for d := json.NewDecoder(out); ; {
		var p listed
		if err = d.Decode(&p); err != nil {
			break
		}
		all[p.ImportPath] = p
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err, said.String())
	}
	return all
}

func everyPackageHasALayer(t *testing.T, all map[string]listed) {
	for p := range all {
		name, ours := strings.CutPrefix(p, module)
		if _, known := packages[name]; ours && !known {
			t.Errorf("%s has no layer: give it a row in packages in layers_test.go, and a rule under depguard in .golangci.yml", name)
		}
	}
	for name := range packages {
		if _, ok := all[module+name]; !ok {
			t.Errorf("%s has a row in packages in layers_test.go, and is no package", name)
		}
	}
}

func importsDownward(t *testing.T, name string, from layer, p listed) {
	for _, imported := range p.Imports {
		to, ours := strings.CutPrefix(imported, module)
		if !ours {
			continue
		}
		switch target := packages[to].layer; {
		case !slices.Contains(below[from], target):
			t.Errorf("it imports %s, and the layer %q may not import the layer %q", to, from, target)
		case slices.Contains(ofADomain, from) && slices.Contains(ofADomain, target) && folder(to) != folder(name):
			t.Errorf("it imports %s, which is of another domain", to)
		}
	}
}

// ofADomain are the layers that a domain's folder holds.
var ofADomain = []layer{domains, suites, shared, adapters, stores}

func folder(pkg string) string {
	first, _, _ := strings.Cut(pkg, "/")
	return first
}

func compilesItsVendors(t *testing.T, p listed, all map[string]listed) {
	var vendors []string
	for _, dep := range append(p.Deps, p.ImportPath) {
		vendors = append(vendors, packages[strings.TrimPrefix(dep, module)].vendors...)
	}
	told := map[string]bool{} // once a module
	for _, dep := range p.Deps {
		of := all[dep].Module.Path
		under := func(vendor string) bool { return dep == vendor || strings.HasPrefix(dep, vendor+"/") }
		if all[dep].Standard || strings.HasPrefix(dep, module) || told[of] || slices.ContainsFunc(vendors, under) {
			continue
		}
		told[of] = true
		t.Errorf("it compiles %s of %s, which its row in packages in layers_test.go doesn't name", dep, of)
	}
}

func compilesNoTests(t *testing.T, p listed) {
	for _, dep := range p.Deps {
		if dep == "testing" || dep == "net/http/httptest" {
			t.Errorf("it compiles %s", dep)
		}
	}
}
