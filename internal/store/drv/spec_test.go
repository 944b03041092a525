package drv

import (
	"reflect"
	"testing"
)

func TestParseSpec(t *testing.T) {
	const (
		drv   = "/nix/store/3ghsl9sd83mc26i81adpa2fzf3yw4f68-simple.drv"
		plain = "/nix/store/3ghsl9sd83mc26i81adpa2fzf3yw4f68-simple"
	)
	for _, c := range []struct {
		text string
		want Spec
		ok   bool
	}{
		{drv, Spec{Path: drv, Bare: true}, true},
		{plain, Spec{Path: plain, Bare: true}, true},
		{"/nix//store/./3ghsl9sd83mc26i81adpa2fzf3yw4f68-simple.drv/", Spec{Path: drv, Bare: true}, true},
		{drv + "!", Spec{Path: drv}, true},
		{drv + "!out", Spec{Path: drv, Outputs: []string{"out"}}, true},
		{drv + "!out,dev,,out", Spec{Path: drv, Outputs: []string{"dev", "out"}}, true},
		{drv + "^*", Spec{Path: drv}, true},
		{drv + "^out,dev", Spec{Path: drv, Outputs: []string{"dev", "out"}}, true},
		{drv + "^", Spec{}, false},
		{drv + "^out,", Spec{}, false},
		{drv + "^*,out", Spec{}, false},
		{drv + "^out^dev", Spec{}, false},
		{drv + "!out!dev", Spec{}, false},
		{drv + "!a/b", Spec{}, false},
		{plain + "!out", Spec{}, false},
		{plain + "^*", Spec{}, false},
		{"!out", Spec{}, false},
		{"", Spec{}, false},
		{"/etc/passwd", Spec{}, false},
	} {
		got, err := ParseSpec(nixStore, c.text)
		if (err == nil) != c.ok || c.ok && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.text, got, err)
		}
	}
}

func TestSpecWants(t *testing.T) {
	some := Spec{Outputs: []string{"dev", "out"}}
	if !some.Wants("dev") || some.Wants("doc") || !(Spec{}).Wants("doc") {
		t.Error("wrong outputs wanted")
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{"!out", "^*", "^out,dev", "!", ""} {
		f.Add("/nix/store/3ghsl9sd83mc26i81adpa2fzf3yw4f68-simple.drv" + s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSpec(nixStore, text)
		if err != nil {
			return
		}
		again, err := ParseSpec(nixStore, s.String())
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("%q: %+v, printed and read again: %+v, %v", text, s, again, err)
		}
	})
}
