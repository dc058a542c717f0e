"""Run by the interpreter of X-AnyLabeling's environment: its real window, without a screen, asks the service.

    python in_the_window.py URL KEY FOLDER IMAGE [PICTURE NAMES]

The remote server is chosen as the model, each task is chosen in the window's list and asked for as a user does: a text
and "Send", boxes and "Run Rect", clicks, "Run". Prints as JSON what then lies on the canvas, task by task, and the
messages of the status bar. FOLDER: for the program's settings. PICTURE, NAMES: where to draw the window to, with the
outlines of these names; nothing else is done then.
"""

import json
import os
import sys
import time

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QTWEBENGINE_CHROMIUM_FLAGS"] = "--no-sandbox"

import anylabeling.config as configuration
from anylabeling.resources import resources  # noqa: F401
from anylabeling.views.labeling.shape import Shape
from anylabeling.views.labeling.utils.theme import get_app_stylesheet, init_theme
from anylabeling.views.mainwindow import MainWindow
from PyQt6.QtCore import QPointF
from PyQt6.QtWidgets import QApplication

URL, KEY, FOLDER, IMAGE, *PICTURE = sys.argv[1:]
PATIENCE_S = 120


def settings():
    """The program's own, with our server."""
    configuration.set_work_directory(FOLDER)
    given = {"remote_server_settings": {"server_url": URL, "api_key": KEY}, "language": "en_US", "theme": "light"}
    configuration.current_config_file = json.dumps(given)
    return configuration.get_config()


class Window:
    """What a user does in it."""

    def __init__(self):
        self.app = QApplication(sys.argv)
        config = settings()
        init_theme("light")
        self.app.setStyleSheet(get_app_stylesheet())
        self.main = MainWindow(self.app, config=config, filename=IMAGE)
        self.main.resize(1500, 860)
        self.main.show()
        self.view = self.main.labeling_widget.view
        self.panel = self.view.auto_labeling_widget
        self.manager = self.panel.model_manager
        self.messages = []
        self.manager.new_model_status.connect(self.messages.append)
        self.until(lambda: self.view.filename)

    def until(self, happened):
        end = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < end, self.messages
            self.app.processEvents()
            time.sleep(0.01)

    def choose_the_remote_server(self):
        self.view.toggle_auto_labeling_widget()
        (path,) = [each["config_file"] for each in self.manager.model_configs if each["type"] == "remote_server"]
        self.panel.new_model_selected.emit(path)
        self.until(lambda: self.panel.remote_server_select_combobox.count())

    def choose_task(self, task):
        tasks = self.panel.remote_task_select_combobox
        self.until(lambda: tasks.findData(task) >= 0)
        tasks.setCurrentIndex(tasks.findData(task))
        self.app.processEvents()

    def asked(self, ask):
        """Do something, wait for its answer, and return what lies on the canvas."""
        finished = []
        connection = self.manager.prediction_finished.connect(lambda: finished.append(True))
        ask()
        self.until(lambda: finished)
        self.until(lambda: self.manager.model_execution_thread is None)
        self.app.processEvents()
        self.manager.prediction_finished.disconnect(connection)
        return [shape.to_dict() for shape in self.view.canvas.shapes]

    def send(self, text):
        self.panel.edit_text.setText(text)
        return self.asked(self.panel.button_send.click)

    def mark(self, kind, *points):
        """As the canvas does at the end of a drawing."""
        shape = Shape(label="AUTOLABEL_ADD", shape_type=kind)
        for x, y in points:
            shape.add_point(QPointF(x, y))
        shape.close()
        self.view.canvas.shapes.append(shape)

    def clear(self):
        self.panel.button_clear.click()
        self.view.canvas.shapes = []
        self.app.processEvents()


def main():
    window = Window()
    window.choose_the_remote_server()
    if PICTURE:
        picture(window, *PICTURE)
    panel, canvas, done = window.panel, window.view.canvas, {}
    combo = panel.remote_task_select_combobox
    done["models"] = [panel.remote_server_select_combobox.itemText(0)]
    done["tasks"] = [combo.itemData(place) for place in range(combo.count())]
    window.choose_task("find_names")
    done["shown"] = sorted(name for name in panel.supported_remote_widgets if getattr(panel, name).isVisible())
    done["find_names"] = window.send("binoculars, cell phone.")
    window.choose_task("find_all_masks")
    done["find_all_masks"] = window.asked(panel.button_run.click)
    window.clear()
    window.choose_task("outline_clicked")
    panel.button_add_point.click()
    window.mark("point", (350, 220))
    done["outline_clicked"] = window.asked(canvas.update_auto_labeling_marks)
    window.clear()
    window.choose_task("describe_boxes")
    panel.add_pos_rect.click()
    window.mark("rectangle", (308, 190), (401, 190), (401, 258), (308, 258))
    window.mark("rectangle", (640, 427), (75, 427), (75, 90), (640, 90))
    canvas.update_auto_labeling_marks()
    done["describe_boxes"] = window.asked(panel.button_run_rect.click)
    window.clear()
    window.choose_task("describe_image")
    window.asked(panel.button_run.click)
    done["description"] = window.view.other_data["description"]
    window.messages.clear()
    window.choose_task("describe_boxes")
    done["no_box"] = window.asked(panel.button_run_rect.click)
    done["messages"] = window.messages
    print("ANSWER", json.dumps(done))
    end()


def end():
    """Its threads and web engine need not be taken down in order."""
    sys.stdout.flush()
    os._exit(0)


def picture(window, path, names):
    window.choose_task("find_names_masks")
    window.send(names)
    window.view.set_fit_window()
    for _ in range(50):
        window.app.processEvents()
        time.sleep(0.02)
    window.main.grab().save(path)
    end()


main()
