"""nginx as a service behind the tunnel: what most people really run there."""

import pathlib

from .loopback import accepts, free_port
from .process import Died, Program


class Nginx:
    """Serves the files under `root`; POST to /accept is answered 200 after the body was read."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.root = self.directory / "root"
        self.root.mkdir(parents=True)
        self.directory.chmod(0o755)
        self.root.chmod(0o755)
        self.port = None
        self.program = None

    def start(self):
        for _ in range(5):
            self.port = free_port()
            config = self.directory / "nginx.conf"
            config.write_text(f"""
daemon off;
master_process off;
pid {self.directory}/nginx.pid;
error_log stderr info;
events {{ worker_connections 1024; }}
http {{
  types {{ text/plain txt; text/html html; }}
  default_type application/octet-stream;
  access_log {self.directory}/access.log;
  client_body_temp_path {self.directory}/body;
  proxy_temp_path {self.directory}/proxy;
  fastcgi_temp_path {self.directory}/fastcgi;
  uwsgi_temp_path {self.directory}/uwsgi;
  scgi_temp_path {self.directory}/scgi;
  client_max_body_size 0;
  gzip on;
  gzip_types text/plain;
  gzip_min_length 100;
  server {{
    listen 127.0.0.1:{self.port};
    root {self.root};
    location = /accept {{ return 200 "taken\\n"; }}
    location = /moved {{ return 302 /hello.txt; }}
    location = /empty {{ return 204; }}
  }}
}}
""")
            self.program = Program("nginx", ["/usr/sbin/nginx", "-p", self.directory, "-c", config],
                                   self.directory)
            try:
                self.program.ready_when(lambda: accepts(self.port))
                return self
            except Died:
                self.program.forget()
                if "Address already in use" not in self.program.output():
                    raise
        raise AssertionError("nginx found no free port in five attempts")

    def stop(self):
        self.program.kill()
