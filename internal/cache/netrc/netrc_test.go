package netrc

import "testing"

const example = `# a comment
machine one.example login me password secret
machine TWO.example
	login "with space" password "q\"uo\\te#"
	account ignored
macdef init
machine three.example login no password no

machine four.example password alone
default login anonymous password p#w
machine one.example login second password second
`

func TestFind(t *testing.T) {
	f, err := Parse(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host string
		want Login
		ok   bool
	}{
		{"one.example", Login{"me", "secret"}, true},
		{"ONE.example", Login{"me", "secret"}, true},
		{"two.example", Login{"with space", `q"uo\te#`}, true},
		{"three.example", Login{}, false},
		{"four.example", Login{"", "alone"}, true},
		{"example", Login{}, false},
	} {
		if got, ok := f.Find(c.host); got != c.want || ok != c.ok {
			t.Errorf("%s: got %q %v, want %q %v", c.host, got, ok, c.want, c.ok)
		}
	}
	if got, ok := f.Default(); !ok || got != (Login{"anonymous", "p#w"}) {
		t.Errorf("the default entry: %q %v", got, ok)
	}
}

func TestParseErrors(t *testing.T) {
	for _, text := range []string{"machine", "machine a login", `machine "a`, "machine \"a\nb\"", `machine a password "\`} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	for _, text := range []string{"", "login a password b", "macdef", "macdef x\nmachine a login b", "unknown words"} {
		f, err := Parse(text)
		if err != nil || len(f.machines) != 0 {
			t.Errorf("%q: %v, %v", text, f, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("machine \"a\\\" login\n#x")
	f.Fuzz(func(t *testing.T, text string) {
		file, _ := Parse(text)
		for _, m := range file.machines {
			if _, ok := file.Find(m.host); !ok {
				t.Errorf("%q is not found", m.host)
			}
		}
	})
}
