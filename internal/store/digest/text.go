package digest

// MarshalText prints a digest for JSON as String does, and the zero value as
// nothing.
func (d Digest) MarshalText() ([]byte, error) {
	if !d.IsSet() {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads what MarshalText prints, and any other form that names
// its algorithm.
func (d *Digest) UnmarshalText(text []byte) (err error) {
	*d = Digest{}
	if len(text) > 0 {
		*d, err = Parse(string(text), Unknown)
	}
	return err
}
