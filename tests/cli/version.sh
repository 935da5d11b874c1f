npos --version
