package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"

	"go.etcd.io/bbolt"
)

// ErrDamaged says that a journal is not what was written.
var ErrDamaged = errors.New("the file is damaged, and what it promised cannot be known: put a copy of it back; or move it away, and make the networks anew")

// check reads a journal as its file has it, before bbolt trusts it. bbolt maps the
// file into memory and follows whatever numbers it finds there: one that leads behind
// the file's end ends the process by a signal, one that leads back makes it go round
// for ever, and a list of free pages that has a page in use has that overwritten later.
func check(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil // a new one
	}
	if err != nil {
		return err
	}
	// Which of the two meta pages counts, bbolt says; and nobody writes meanwhile.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var r reader
	if err := db.View(func(tx *bbolt.Tx) error {
		r = reader{text: text, size: db.Info().PageSize, pages: tx.Size() / int64(db.Info().PageSize), seen: map[uint64]bool{}, top: map[string]bool{}, meta: uint64(tx.ID())}
		return nil
	}); err != nil {
		return err
	}
	if err := r.read(); err != nil {
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	}
	return nil
}

// reader walks the pages of bbolt's format: a header of 16 bytes (number, flags, count
// of elements, count of more pages), and elements of 16 bytes that say where their
// keys and values are.
type reader struct {
	text  []byte
	size  int   // of a page
	pages int64 // that are in use, or have been
	meta  uint64
	seen  map[uint64]bool

	top  map[string]bool // the buckets that are not in others
	sum  uint64          // of what there is
	want []byte          // the one that was written
	ver  []byte
}

const (
	headerSize  = 16
	metaSize    = 64 // its last 8 bytes are the sum of the others
	elementSize = 16
	branchPage  = 1
	leafPage    = 2
	isBucket    = 1 // a leaf's element
)

func (r *reader) read() error {
	for number := range 2 {
		if err := r.metaPage(number); err != nil {
			return err
		}
	}
	// bbolt takes turns with the two pages at the beginning; the root follows 16 bytes of the meta data.
	at := int(r.meta%2)*r.size + headerSize + 16
	if at+8 > len(r.text) {
		return errors.New("it has no meta page")
	}
	if err := r.tree(binary.NativeEndian.Uint64(r.text[at:]), "", nil, nil); err != nil {
		return err
	}
	if len(r.top) == 0 { // made, and not written to
		return nil
	}
	if len(r.ver) != 8 {
		return errors.New("it does not say of which version it is")
	}
	version := binary.BigEndian.Uint64(r.ver)
	switch {
	case r.want == nil && version < summed, version > uint64(len(migrations)): // that is refused in other words
		return nil
	case len(r.want) != 8 || binary.BigEndian.Uint64(r.want) != r.sum:
		return errors.New("its records do not sum up to what was written")
	}
	for _, name := range buckets { // of an empty one the sum says nothing
		if !r.top[string(name)] {
			return fmt.Errorf("%s are missing", name)
		}
	}
	return nil
}

// metaPage refuses one that is not what was written. bbolt would take the other one, which may say
// what there was a transaction ago. A power failure is no reason for it: what counts of the
// page is in one sector, which a disk has written or not.
func (r *reader) metaPage(number int) error {
	at := number*r.size + headerSize
	if at+metaSize > len(r.text) {
		return fmt.Errorf("meta page %d is not in the file", number)
	}
	meta := r.text[at : at+metaSize]
	sum := fnv.New64a()
	_, _ = sum.Write(meta[:metaSize-8]) // never fails
	if binary.NativeEndian.Uint64(meta[metaSize-8:]) != sum.Sum64() {
		return fmt.Errorf("meta page %d does not sum up to what was written", number)
	}
	return nil
}

// tree walks a page with all below it. Its keys are at least low, and less than high; nil: any.
func (r *reader) tree(number uint64, path string, low, high []byte) error {
	from := int64(number) * int64(r.size)
	if number < 2 || number >= uint64(r.pages) || from+int64(r.size) > int64(len(r.text)) {
		return fmt.Errorf("page %d is not in the file", number)
	}
	more := int64(binary.NativeEndian.Uint32(r.text[from+12:]))
	if binary.NativeEndian.Uint64(r.text[from:]) != number || int64(number)+more >= r.pages || from+(more+1)*int64(r.size) > int64(len(r.text)) {
		return fmt.Errorf("page %d is another one", number)
	}
	for n := number; n <= number+uint64(more); n++ {
		if r.seen[n] {
			return fmt.Errorf("page %d is there twice", n)
		}
		r.seen[n] = true
	}
	return r.page(r.text[from:from+(more+1)*int64(r.size)], path, low, high)
}

// page walks the elements of a page, or of a bucket that is so small that it is in a value.
func (r *reader) page(page []byte, path string, low, high []byte) error {
	if len(page) < headerSize {
		return errors.New("a page ends early")
	}
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	if flags != branchPage && flags != leafPage || headerSize+count*elementSize > len(page) {
		return errors.New("a page is none")
	}
	part := func(element, at, length int) ([]byte, error) {
		from := headerSize + element*elementSize + at
		if at < 0 || length < 0 || from+length > len(page) || from+length < from {
			return nil, errors.New("a record is not in its page")
		}
		return page[from : from+length], nil
	}
	number := func(element, at int) int {
		return int(binary.NativeEndian.Uint32(page[headerSize+element*elementSize+at:]))
	}
	for i := range count {
		position, keyLength := number(i, 4), number(i, 8)
		if flags == branchPage {
			position, keyLength = number(i, 0), number(i, 4)
		}
		key, err := part(i, position, keyLength)
		if err != nil {
			return err
		}
		if low != nil && bytes.Compare(key, low) < 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return fmt.Errorf("%s/%x is at the wrong place", path, key)
		}
		next := high
		if i+1 < count { // the keys rise, strictly
			position, length := number(i+1, 4), number(i+1, 8)
			if flags == branchPage {
				position, length = number(i+1, 0), number(i+1, 4)
			}
			if next, err = part(i+1, position, length); err != nil {
				return err
			}
			if bytes.Compare(key, next) >= 0 {
				return fmt.Errorf("%s/%x is at the wrong place", path, key)
			}
		}
		if flags == branchPage {
			if err := r.tree(binary.NativeEndian.Uint64(page[headerSize+i*elementSize+8:]), path, key, next); err != nil {
				return err
			}
			continue
		}
		value, err := part(i, position+keyLength, number(i, 12))
		if err != nil {
			return err
		}
		if err := r.leaf(number(i, 0), path, key, value); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) leaf(flags int, path string, key, value []byte) error {
	if flags&isBucket != 0 {
		if len(value) < 16 {
			return fmt.Errorf("%s/%s is no bucket", path, key)
		}
		if path == "" {
			r.top[string(key)] = true
		}
		path += "/" + string(key)
		if root := binary.NativeEndian.Uint64(value); root != 0 {
			return r.tree(root, path, nil, nil)
		}
		return r.page(value[16:], path, nil, nil)
	}
	if path == "/"+string(bucketMeta) && string(key) == string(keyVersion) {
		r.ver = value
	}
	if isSum(path, key) {
		r.want = value
		return nil
	}
	r.sum += sumOf(path, key, value)
	return nil
}
