package crilog

// Kill ends w as the death of its process would.
func (w *Writer) Kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	_ = w.closeFiles()
}
