package internal_test

import (
	"flag"
	"fmt"
	"go/ast"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gobuild/internal/config"
)

var update = flag.Bool("update", false, "rewrite the documents that are made from code")

const settingsFile = "../docs/settings.md"

const settingsIntro = `# Settings

<!-- Made from internal/config/table.go by "make golden"; edit that, not this. -->

gobuild reads Nix's configuration files, in Nix's syntax (` + "`NAME = VALUE`, `extra-NAME`, `include`, `!include`, `#`" + `).
Later sources win:

1. the defaults below;
2. ` + "`nix.conf`" + ` in the configuration directory (` + "`$NIX_CONF_DIR`, else `/etc/nix`" + `);
3. users' files: those in ` + "`$NIX_USER_CONF_FILES`" + ` (the first wins), else ` + "`nix/nix.conf`" + ` in ` +
	"`$XDG_CONFIG_DIRS` and `$XDG_CONFIG_HOME`" + `;
4. the text in ` + "`$NIX_CONFIG`" + `;
5. flags: ` + "`--option NAME VALUE`" + `, and the flags of ` + "`gobuild realise`" + ` that have a setting's name.

An unknown name is a warning. Settings of Nix's evaluator and of flakes are ignored without one. Times are in
seconds and sizes in bytes.

**Used** tells whether this version does anything with the value; the others are read, so that one file serves both
programs, and wait for the parts of gobuild that will use them.

| Setting | Kind | Default | Meaning | Used |
|---|---|---|---|---|
`

// machineDefaults are the defaults that depend on the machine or the run.
var machineDefaults = map[string]string{
	"allow-symlinked-store":             "true if `$NIX_IGNORE_SYMLINK_STORE` is 1",
	"auto-allocate-uids":                "true for root without a group `nixbld`",
	"build-users-group":                 "`nixbld` for root, if the group exists",
	"builders":                          "`@CONF/machines`",
	"cores":                             "the processors that gobuild may use",
	"extra-platforms":                   "`i686-linux` on `x86_64-linux`",
	"netrc-file":                        "`CONF/netrc`",
	"require-drop-supplementary-groups": "true for root",
	"sandbox-paths":                     "`/bin/sh=` a static busybox, if there is one",
	"ssl-cert-file":                     "`$NIX_SSL_CERT_FILE`, `$SSL_CERT_FILE`, `/etc/ssl/certs/ca-certificates.crt`",
	"store":                             "`$NIX_REMOTE`, else `auto`",
	"system":                            "the machine's platform",
	"system-features":                   "`benchmark big-parallel nixos-test`, and `kvm` if `/dev/kvm` can be used",
}

// TestSettingsDocument compares docs/settings.md with the table of settings.
func TestSettingsDocument(t *testing.T) {
	want := settingsDocument(t)
	if *update {
		if err := os.WriteFile(settingsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(settingsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("'%s' is not what the table of settings makes of it; run: make golden", settingsFile)
	}
}

func settingsDocument(t *testing.T) string {
	t.Helper()
	rows, used := settingRows(t), usedFields(t)
	entries := new(config.Settings).Entries()
	if len(rows) != len(entries) {
		t.Fatalf("found %d settings in the source, and the table has %d", len(rows), len(entries))
	}
	var b strings.Builder
	b.WriteString(settingsIntro)
	for i, e := range entries {
		name := "`" + e.Name + "`"
		if rows[i].aliases != "" {
			name += " (was `" + strings.ReplaceAll(rows[i].aliases, " ", "`, `") + "`)"
		}
		initial, ok := machineDefaults[e.Name]
		if !ok && e.Default != "" {
			initial = "`" + e.Default + "`"
		}
		use := ""
		if used[rows[i].field] {
			use = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", name, e.Kind, initial, strings.ReplaceAll(e.Doc, "|", `\|`), use)
	}
	return b.String()
}

// A settingRow is what the table's source says and its entries do not.
type settingRow struct{ name, aliases, field string }

// settingRows reads the table from its source.
func settingRows(t *testing.T) []settingRow {
	t.Helper()
	var rows []settingRow
	for _, s := range sources(t) {
		if s.name != "internal/config/table.go" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.CompositeLit); ok && len(lit.Elts) == 6 {
				rows = append(rows, settingRow{text(lit.Elts[0]), text(lit.Elts[1]), fieldOf(lit.Elts[5])})
			}
			return true
		})
	}
	for i, e := range new(config.Settings).Entries() {
		if i >= len(rows) || rows[i].name != e.Name || rows[i].field == "" {
			t.Fatalf("cannot read the setting '%s' from the source of the table", e.Name)
		}
	}
	return rows
}

func text(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	s, _ := strconv.Unquote(lit.Value)
	return s
}

// fieldOf finds "&s.FIELD" in a function.
func fieldOf(f ast.Expr) (field string) {
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && isNamed(sel.X, "s") {
			field = sel.Sel.Name
		}
		return true
	})
	return field
}

func isNamed(e ast.Expr, names ...string) bool {
	last := ""
	switch e := e.(type) {
	case *ast.Ident:
		last = e.Name
	case *ast.SelectorExpr:
		last = e.Sel.Name
	}
	for _, n := range names {
		if last == n {
			return true
		}
	}
	return false
}

// usedFields are the fields of Settings that commands read, where they are
// called settings or c.
func usedFields(t *testing.T) map[string]bool {
	t.Helper()
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.pkg != "cmd/gobuild" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && isNamed(sel.X, "settings", "c") {
				used[sel.Sel.Name] = true
			}
			return true
		})
	}
	return used
}

// TestLinks finds links of the documents that lead nowhere.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#: ]+)(?:#[^)]*)?\)`)
	for _, dir := range []string{"..", "../docs"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".md") {
				continue
			}
			body, err := os.ReadFile(dir + "/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range link.FindAllStringSubmatch(string(body), -1) {
				if _, err := os.Stat(dir + "/" + m[1]); err != nil {
					t.Errorf("%s links to '%s', which is not there", e.Name(), m[1])
				}
			}
		}
	}
}
