import getpass

import flask

app = flask.Flask(__name__)


@app.get("/")
def index():
    return f"python says {getpass.getuser()}\n"
