package image

func crashLoop(string) {}
